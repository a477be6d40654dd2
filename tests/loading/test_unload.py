"""Tables and queries as files: parts, manifest, and what an attempt leaves behind."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.connectors.unloading.place import storing
from dataloader.exceptions import UnavailableError
from tests.conftest import direct_dsn
from tests.loading.scene import Scene, message, result

WORKERS = '[{"queue": "unload.table", "concurrency": 2}, {"queue": "load.file", "concurrency": 1}]'
ROWS = 100


@pytest.fixture
async def scene(scene: Scene, make_settings: Callable[..., Settings], tmp_path: Path) -> Scene:
    """A scene with a table `t`, where files may be written."""
    settings = make_settings(
        dl_source_roots=str(tmp_path),
        dl_target_roots=str(tmp_path),
        dl_connections=json.dumps({"shop": direct_dsn(scene.settings)}),
        workers_json=WORKERS,
    )
    await scene.pg.execute(
        "create table t (id bigint primary key, amount numeric(10,2), note text, at timestamptz);"
        f"insert into t select n, n / 3.0, 'note ' || n, to_timestamp(n) from generate_series(1, {ROWS}) n"
    )
    return replace(scene, settings=settings, task="unload.table")


def out(scene: Scene) -> str:
    """Return the directory that unloads go to."""
    return str(scene.folder / "out")


def manifest(scene: Scene) -> dict[str, Any]:
    """Return the manifest, once all that it says of its parts has been found true."""
    target = Path(out(scene))
    found: dict[str, Any] = json.loads((target / "manifest.json").read_text("utf-8"))
    for part in found["parts"]:
        data = (target / part["name"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
    assert found["rows"] == sum(part["rows"] for part in found["parts"])
    assert found["bytes"] == sum(part["bytes"] for part in found["parts"])
    return found


def listed(scene: Scene) -> list[str]:
    """Return all names at the target."""
    return sorted(path.name for path in Path(out(scene)).iterdir())


def text(scene: Scene) -> str:
    """Return the rows of all parts, without headers."""
    parts = [Path(out(scene), part["name"]).read_text("utf-8") for part in manifest(scene)["parts"]]
    return "".join(part.partition("\n")[2] for part in parts)


async def again(scene: Scene, job_id: UUID) -> asyncpg.Record:
    """Queue a job that has failed once more, and run it to its end."""
    await scene.pg.execute(
        "update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5 where job_id = $1",
        job_id,
    )
    (job,) = await scene.ended(job_id)
    return job


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"part_rows": 2, "delimiter": "\t", "null": r"\N"}])
async def test_what_is_unloaded_and_loaded_is_the_same(scene: Scene, how: dict[str, object]) -> None:
    texts = ["plain", "", None, 'a "quote"', "two\nlines", "tab\there, comma", r"\N", r"\.", "Ünïcode 東京", "  "]
    await scene.pg.execute("create table told (id int primary key, told text, raw bytea, tags text[])")
    await scene.pg.executemany(
        "insert into told values ($1, $2, $3, $4)",
        [(number, told, b"\x00\xff", ["a,b", None]) for number, told in enumerate(texts)],
    )
    await scene.load(table="told", target=out(scene), **how)
    pattern = f"{out(scene)}/part-*"
    await scene.pg.execute("create table back (like told)")

    dialect = {name: how[name] for name in ("delimiter", "null") if name in how}
    job = await replace(scene, task="load.file").load(source=pattern, table="back", **dialect)

    assert result(job)["rows"] == len(texts)
    assert await scene.rows("(table told except all table back) union all (table back except all table told)") == []


@pytest.mark.parametrize("part_rows", [1, 30, 50, 1_000])
async def test_every_row_is_in_one_part_and_parts_have_their_size(scene: Scene, part_rows: int) -> None:
    job = await scene.load(target=out(scene), part_rows=part_rows)

    sizes = [part["rows"] for part in manifest(scene)["parts"]]
    assert result(job)["rows"] == sum(sizes) == ROWS
    assert max(sizes) == min(part_rows, ROWS)
    assert [int(line.partition(",")[0]) for line in text(scene).splitlines()] == list(range(1, ROWS + 1))
    assert listed(scene) == ["manifest.json", *(f"part-{n:05}.csv" for n in range(1, len(sizes) + 1))]


async def test_parts_have_about_the_bytes_that_are_asked_for(scene: Scene) -> None:
    await scene.load(target=out(scene), part_bytes=1_000, header=False)

    sizes = [part["bytes"] for part in manifest(scene)["parts"]]
    assert len(sizes) > 3
    assert all(500 < size < 1_500 for size in sizes[:-1])


async def test_the_manifest_says_what_the_parts_are(scene: Scene) -> None:
    job = await scene.load(target=out(scene), part_rows=60)

    found = manifest(scene)
    assert found["columns"] == [
        {"name": "id", "type": "bigint"},
        {"name": "amount", "type": "numeric(10,2)"},
        {"name": "note", "type": "text"},
        {"name": "at", "type": "timestamp with time zone"},
    ]
    assert (found["format"], found["key"], found["source"]) == ("csv", ["id"], "dataloader.public.t")
    assert (found["rows"], found["job_id"]) == (ROWS, str(job["job_id"]))
    assert result(job) == {
        "rows": ROWS,
        "bytes": found["bytes"],
        "parts": 2,
        "manifest": f"{out(scene)}/manifest.json",
    }


async def test_progress_counts_rows(scene: Scene) -> None:
    job = await scene.load(target=out(scene), part_rows=60)

    progress = json.loads(job["progress"])
    assert (progress["done"], progress["unit"]) == (ROWS, "rows")


async def test_gzip_is_gzip(scene: Scene) -> None:
    await scene.load(target=out(scene), compression="gzip", part_rows=60)

    assert [part["name"] for part in manifest(scene)["parts"]] == ["part-00001.csv.gz", "part-00002.csv.gz"]
    first = gzip.decompress(Path(out(scene), "part-00001.csv.gz").read_bytes()).decode()
    assert first.splitlines()[:2] == ["id,amount,note,at", "1,0.33,note 1,1970-01-01 00:00:01+00"]


async def test_a_query_is_one_part_unless_it_has_a_key(scene: Scene) -> None:
    query = "select id % 10 as bucket, count(*) as n from t group by 1 -- per bucket"

    one, several = await scene.loads(
        {"table": None, "query": query, "target": out(scene)},
        {"table": None, "query": query, "target": out(scene), "key": ["bucket"], "part_rows": 4, "overwrite": True},
    )

    assert (result(one)["parts"], result(several)["parts"]) == (1, 3)
    assert text(scene) == "".join(f"{bucket},10\n" for bucket in range(10))


async def test_rows_of_one_key_stay_in_one_part(scene: Scene) -> None:
    query = "select id / 40 as half, id from t"

    await scene.load(table=None, query=query, target=out(scene), key=["half"], part_rows=10)

    assert [part["rows"] for part in manifest(scene)["parts"]] == [39, 40, 21]


async def test_a_table_without_rows_is_a_part_with_a_header(scene: Scene) -> None:
    await scene.pg.execute("truncate t")

    job = await scene.load(target=out(scene))

    assert result(job)["rows"] == 0
    assert Path(out(scene), "part-00001.csv").read_text("utf-8") == "id,amount,note,at\n"


async def test_another_connection_is_read(scene: Scene) -> None:
    await scene.load(connection="shop", target=out(scene))

    assert (manifest(scene)["rows"], manifest(scene)["source"]) == (ROWS, "shop.public.t")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"table": "nowhere"}, 'relation "public.nowhere" does not exist'),
        ({"table": "closed", "connection": "clerk"}, "permission denied for table closed"),
        ({"connection": "none"}, "no connection 'none' in DL_CONNECTIONS; known are: clerk"),
        ({"key": ["nothing"]}, "has no column nothing; it has id, amount, note, at"),
        ({"table": None, "query": "select null::int as k", "key": ["k"]}, "has rows without k"),
        ({"table": None, "query": "delete from t returning id"}, "syntax error"),
        ({"table": None, "query": "select nextval('counter') as n"}, "read-only"),
        ({"target": "/etc/out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/../out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/link/out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/file"}, "is a file; the target of an unload is a directory"),
        ({"target": "{folder}/file/below"}, "Not a directory"),
        pytest.param(
            {"target": "{folder}/closed/below"},
            "Permission denied",
            marks=pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root"),
        ),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(
    scene: Scene, make_settings: Callable[..., Settings], args: dict[str, Any], reason: str
) -> None:
    scene.write("file", "")
    (scene.folder / "link").symlink_to("/etc")
    (scene.folder / "closed").mkdir(mode=0o500)
    await scene.pg.execute(
        "create sequence counter; create table closed (a int);"
        "do $$ begin create role dl_test_clerk; exception when duplicate_object then null; end $$"
    )
    dsn = (
        direct_dsn(scene.settings)
        + ("&" if "?" in direct_dsn(scene.settings) else "?")
        + "options=-crole%3Ddl_test_clerk"
    )
    settings = make_settings(
        dl_target_roots=str(scene.folder), dl_connections=json.dumps({"clerk": dsn}), workers_json=WORKERS
    )
    target = str(args.get("target", "{folder}/out")).replace("{folder}", str(scene.folder))

    job = await replace(scene, settings=settings).load(**args | {"target": target})

    assert reason in message(job)
    assert await scene.rows("select count(*) from t") == [(ROWS,)]


async def test_nothing_is_written_unless_directories_are_named(
    scene: Scene, make_settings: Callable[..., Settings]
) -> None:
    job = await replace(scene, settings=make_settings(workers_json=WORKERS)).load(target=out(scene))

    assert "name directories in DL_TARGET_ROOTS" in message(job)
    assert not Path(out(scene)).exists()


def test_a_full_disk_is_told_and_tried_again() -> None:
    with (
        pytest.raises(UnavailableError, match="the disk is full"),
        storing(Path("/dev/full")),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


async def test_an_earlier_unload_is_kept_unless_it_is_to_be_replaced(scene: Scene) -> None:
    first, second = await scene.loads({"target": out(scene)}, {"target": out(scene)})

    assert "holds manifest.json of an earlier unload; set overwrite=true" in message(second)
    assert manifest(scene)["job_id"] == str(first["job_id"])


async def test_a_replaced_unload_is_gone_once_the_new_one_is_there(scene: Scene) -> None:
    how: dict[str, object] = {"target": out(scene), "part_rows": 30, "overwrite": True}
    await scene.load(**how)
    await scene.pg.execute("delete from t where id > 50")

    second, third = await scene.loads(how, how | {"part_rows": 1_000})

    assert (result(second)["rows"], result(third)["parts"]) == (50, 1)
    assert listed(scene) == ["manifest.json", manifest(scene)["parts"][0]["name"]]
    assert manifest(scene)["rows"] == 50


async def test_a_manifest_of_something_else_is_never_replaced(scene: Scene) -> None:
    Path(out(scene)).mkdir()
    scene.write("out/manifest.json", '{"name": "app"}')

    job = await scene.load(target=out(scene), overwrite=True)

    assert "is not the manifest of an unload; move it away" in message(job)
    assert listed(scene) == ["manifest.json"]


async def failing(scene: Scene) -> asyncpg.Record:
    """Run an unload that fails in its third part; return its row."""
    await scene.pg.execute("create view v as select id, (1 / (70 - id))::int as part, note from t")
    job = await scene.load(table="v", key=["id"], target=out(scene), part_rows=30)
    assert "division by zero" in message(job)
    return job


async def test_an_attempt_goes_on_behind_its_last_part(scene: Scene) -> None:
    job = await failing(scene)
    folder = Path(out(scene), f".unload-{job['job_id']}")
    assert listed(scene) == [folder.name]
    kept = {
        path.name.partition(".csv")[0]: path.stat().st_ino for path in folder.iterdir() if path.stat().st_size > 300
    }
    await scene.pg.execute("create or replace view v as select id, 0::int as part, note from t")

    job = await again(scene, job["job_id"])

    assert result(job)["rows"] == ROWS
    assert [part["rows"] for part in manifest(scene)["parts"]] == [30, 30, 30, 10]
    assert [int(line.partition(",")[0]) for line in text(scene).splitlines()] == list(range(1, ROWS + 1))
    assert listed(scene) == ["manifest.json", *(f"part-{n:05}.csv" for n in range(1, 5))]
    inodes = [Path(out(scene), f"part-{n:05}.csv").stat().st_ino for n in (1, 2)]
    assert inodes == [kept["part-00001"], kept["part-00002"]]


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"half")])
async def test_a_part_that_was_lost_between_attempts_is_noticed(scene: Scene, damage: Callable[[Path], object]) -> None:
    job = await failing(scene)
    damage(next(Path(out(scene)).glob(".unload-*/part-00002*")))

    job = await again(scene, job["job_id"])

    assert "part-00002.csv of an earlier attempt is gone" in message(job)


async def test_columns_that_change_between_attempts_are_noticed(scene: Scene) -> None:
    job = await failing(scene)
    await scene.pg.execute("drop view v; create view v as select id, note from t")

    job = await again(scene, job["job_id"])

    assert "the columns of dataloader.public.v have changed since this unload began" in message(job)


async def test_leftovers_of_ended_jobs_are_removed(scene: Scene) -> None:
    await failing(scene)
    unknown = Path(out(scene), f".unload-{uuid4()}")
    unknown.mkdir()
    (unknown / "manifest.json").write_text('{"parts": [{"name": "part-00009.csv"}, {"name": "../kept"}]}', "utf-8")
    kept = scene.write("kept", "")
    (Path(out(scene)) / "part-00009.csv").write_text("", "utf-8")

    await scene.load(target=out(scene), overwrite=True)

    assert listed(scene) == ["manifest.json", manifest(scene)["parts"][0]["name"]]
    assert Path(kept).exists()


async def test_a_publication_that_was_cut_short_is_ended(scene: Scene) -> None:
    """What a worker leaves that dies while it puts parts in place."""
    job = await scene.load(target=out(scene), part_rows=60)
    folder = Path(out(scene), f".unload-{job['job_id']}")
    folder.mkdir()
    Path(out(scene), "manifest.json").rename(folder / "manifest.json")
    state = json.loads(job["checkpoint"])
    Path(out(scene), "part-00002.csv").rename(folder / state["parts"][1][1])

    job = await again(scene, job["job_id"])

    assert result(job)["parts"] == 2
    assert manifest(scene)["rows"] == ROWS
    assert listed(scene) == ["manifest.json", "part-00001.csv", "part-00002.csv"]


async def test_two_jobs_do_not_write_to_one_directory_at_a_time(scene: Scene) -> None:
    job = await failing(scene)
    await scene.pg.execute(
        "update dl_jobs set status = 'queued', finished_at = null, ready = false, max_attempts = 5,"
        " available_at = now() + interval '1 hour'"
    )

    job = await scene.put_off(target=out(scene), overwrite=True)

    assert job["attempt"] == 0
    (reason,) = await scene.rows("select data::text from dl_job_events order by event_id desc limit 1")
    assert f"is writing to {out(scene)}" in reason[0]


@pytest.mark.parametrize(
    "args",
    [
        {"query": "select 1 as a"},
        {"table": None},
        {"delimiter": '"'},
        {"null": "a,b"},
        {"null": "\n"},
        {"key": ["id", "id"]},
        {"format": "parquet"},
        {"part_rows": 0},
    ],
)
async def test_arguments_that_make_no_sense_are_refused(scene: Scene, args: dict[str, object]) -> None:
    job = await scene.load(**{"target": out(scene)} | args)

    assert job["status"] == "failed"
    assert not Path(out(scene)).exists()
