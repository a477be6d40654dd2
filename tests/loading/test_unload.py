"""Tables and queries as files: parts, manifest, and what is refused."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.connectors.unloading.place import storing
from dataloader.exceptions import UnavailableError
from tests.conftest import direct_dsn
from tests.loading.scene import Scene, message, result
from tests.loading.unloaded import ROWS, WORKERS, content, folder, is_there, listed, manifest, out, text

NOT_ROOT = pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}, {"part_rows": 2, "delimiter": "\t", "null": r"\N"}])
async def test_what_is_unloaded_and_loaded_is_the_same(unloading: Scene, how: dict[str, object]) -> None:
    texts = ["plain", "", None, 'a "quote"', "two\nlines", "tab\there, comma", r"\N", r"\.", "Ünïcode 東京", "  "]
    await unloading.pg.execute("create table told (id int primary key, told text, raw bytea, tags text[])")
    await unloading.pg.executemany(
        "insert into told values ($1, $2, $3, $4)",
        [(number, told, b"\x00\xff", ["a,b", None]) for number, told in enumerate(texts)],
    )
    await unloading.load(table="told", target=out(unloading), **how)
    pattern = f"{out(unloading)}/part-*"
    await unloading.pg.execute("create table back (like told)")

    dialect = {name: how[name] for name in ("delimiter", "null") if name in how}
    job = await replace(unloading, task="load.file").load(source=pattern, table="back", **dialect)

    assert result(job)["rows"] == len(texts)
    assert await unloading.rows("(table told except all table back) union all (table back except all table told)") == []


@pytest.mark.parametrize("part_rows", [1, 30, 50, 1_000])
async def test_every_row_is_in_one_part_and_parts_have_their_size(unloading: Scene, part_rows: int) -> None:
    job = await unloading.load(target=out(unloading), part_rows=part_rows)

    sizes = [part["rows"] for part in manifest(unloading)["parts"]]
    assert result(job)["rows"] == sum(sizes) == ROWS
    assert max(sizes) == min(part_rows, ROWS)
    assert [int(line.partition(",")[0]) for line in text(unloading).splitlines()] == list(range(1, ROWS + 1))
    assert listed(unloading) == ["manifest.json", *(f"part-{n:05}.csv" for n in range(1, len(sizes) + 1))]


async def test_what_the_role_limits_for_others_ends_no_unload_of_the_own_database(unloading: Scene) -> None:
    names = ("statement_timeout", "lock_timeout", "transaction_timeout", "idle_in_transaction_session_timeout")
    known = f"select name, setting from pg_settings where name in {names}"
    own = await unloading.pg.fetchval("select current_database()")
    limited = [row["name"] for row in await unloading.pg.fetch(known)]
    for name in limited:
        await unloading.pg.execute(f"alter database \"{own}\" set {name} = '20s'")

    await unloading.load(table=None, query=known, target=out(unloading))

    assert set(text(unloading).splitlines()) == {f"{name},0" for name in limited}


async def test_parts_have_about_the_bytes_that_are_asked_for(unloading: Scene) -> None:
    await unloading.load(target=out(unloading), part_bytes=1_000, header=False)

    sizes = [part["bytes"] for part in manifest(unloading)["parts"]]
    assert len(sizes) > 3
    assert all(500 < size < 1_500 for size in sizes[:-1])


async def test_the_manifest_says_what_the_parts_are(unloading: Scene) -> None:
    job = await unloading.load(target=out(unloading), part_rows=60)

    found = manifest(unloading)
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
        "manifest": f"{out(unloading)}/manifest.json",
    }


async def test_progress_counts_rows(unloading: Scene) -> None:
    job = await unloading.load(target=out(unloading), part_rows=60)

    progress = json.loads(job["progress"])
    assert (progress["done"], progress["total"], progress["unit"]) == (ROWS, ROWS, "rows")


async def test_gzip_is_gzip(unloading: Scene) -> None:
    await unloading.load(target=out(unloading), compression="gzip", part_rows=60)

    assert [part["name"] for part in manifest(unloading)["parts"]] == ["part-00001.csv.gz", "part-00002.csv.gz"]
    first = gzip.decompress(content(unloading, "part-00001.csv.gz")).decode()
    assert first.splitlines()[:2] == ["id,amount,note,at", "1,0.33,note 1,1970-01-01 00:00:01+00"]


async def test_parquet_is_parquet(unloading: Scene) -> None:
    await unloading.load(target=out(unloading), format="parquet", compression="snappy", part_rows=60)
    await replace(unloading, task="load.file").load(source=f"{out(unloading)}/part-*", table="back")

    found = manifest(unloading)
    assert {name: found.get(name) for name in ("format", "compression", "header")} == {
        "format": "parquet",
        "compression": "snappy",
        "header": None,
    }
    assert [part["name"] for part in found["parts"]] == ["part-00001.parquet", "part-00002.parquet"]
    assert await unloading.types("back") == await unloading.types("t")
    assert await unloading.rows("(table t except all table back) union all (table back except all table t)") == []


async def test_a_value_that_parquet_has_no_place_for_ends_the_unload(unloading: Scene) -> None:
    query = "select n as id, 'infinity'::date as day from generate_series(1, 2) n"

    job = await unloading.load(table=None, query=query, target=out(unloading), format="parquet")

    assert "column day holds what Parquet has no date for: infinity" in message(job)
    assert not (unloading.folder / "out" / "manifest.json").exists()


async def test_a_query_is_one_part_unless_it_has_a_key(unloading: Scene) -> None:
    query = "select id % 10 as bucket, count(*) as n from t group by 1 -- per bucket"

    one, several = await unloading.loads(
        {"table": None, "query": query, "target": out(unloading)},
        {"table": None, "query": query, "target": out(unloading), "key": ["bucket"], "part_rows": 4, "overwrite": True},
    )

    assert (result(one)["parts"], result(several)["parts"]) == (1, 3)
    assert text(unloading) == "".join(f"{bucket},10\n" for bucket in range(10))


async def test_rows_of_one_key_stay_in_one_part(unloading: Scene) -> None:
    query = "select id / 40 as half, id from t"

    await unloading.load(table=None, query=query, target=out(unloading), key=["half"], part_rows=10)

    assert [part["rows"] for part in manifest(unloading)["parts"]] == [39, 40, 21]


async def test_a_table_without_rows_is_a_part_with_a_header(unloading: Scene) -> None:
    await unloading.pg.execute("truncate t")

    job = await unloading.load(target=out(unloading))

    assert result(job)["rows"] == 0
    assert content(unloading, "part-00001.csv") == b"id,amount,note,at\n"


async def test_another_connection_is_read(unloading: Scene) -> None:
    await unloading.load(connection="shop", target=out(unloading))

    assert (manifest(unloading)["rows"], manifest(unloading)["source"]) == (ROWS, "shop.public.t")


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"table": "nowhere"}, 'relation "public.nowhere" does not exist'),
        ({"table": "closed", "connection": "clerk"}, "permission denied for table closed"),
        ({"connection": "none"}, "no connection 'none' in DL_CONNECTIONS; known are: clerk"),
        ({"key": ["nothing"]}, "has no column nothing; it has id, amount, note, at"),
        ({"table": None, "query": "select null::int as k, 1 as n", "key": ["k"]}, "has rows without k"),
        ({"table": None, "query": "delete from t returning id"}, "syntax error"),
        ({"table": None, "query": "select nextval('counter') as n"}, "read-only"),
        ({"target": "/etc/out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/../out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/link/out"}, "lies outside the directories named in DL_TARGET_ROOTS"),
        ({"target": "{folder}/file"}, "is a file; the target of an unload is a directory"),
        ({"target": "{folder}/file/below"}, "Not a directory"),
        pytest.param({"target": "{folder}/closed/below"}, "Permission denied", marks=NOT_ROOT),
    ],
)
async def test_what_cannot_be_done_is_refused_with_a_reason(
    unloading: Scene, make_settings: Callable[..., Settings], args: dict[str, Any], reason: str
) -> None:
    unloading.write("file", "")
    (unloading.folder / "link").symlink_to("/etc")
    folder(unloading, "closed").chmod(0o500)
    await unloading.pg.execute(
        "create sequence counter; create table closed (a int);"
        "do $$ begin create role dl_test_clerk; exception when duplicate_object then null; end $$"
    )
    dsn = (
        direct_dsn(unloading.settings)
        + ("&" if "?" in direct_dsn(unloading.settings) else "?")
        + "options=-crole%3Ddl_test_clerk"
    )
    settings = make_settings(
        dl_target_roots=str(unloading.folder), dl_connections=json.dumps({"clerk": dsn}), workers_json=WORKERS
    )
    target = str(args.get("target", "{folder}/out")).replace("{folder}", str(unloading.folder))

    job = await replace(unloading, settings=settings).load(**args | {"target": target})

    assert reason in message(job)
    assert await unloading.rows("select count(*) from t") == [(ROWS,)]


async def test_nothing_is_written_unless_directories_are_named(
    unloading: Scene, make_settings: Callable[..., Settings]
) -> None:
    job = await replace(unloading, settings=make_settings(workers_json=WORKERS)).load(target=out(unloading))

    assert "name directories in DL_TARGET_ROOTS" in message(job)
    assert not is_there(unloading)


def test_a_full_disk_is_told_and_tried_again() -> None:
    with (
        pytest.raises(UnavailableError, match="the disk is full"),
        storing(Path("/dev/full")),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"x")


async def test_an_earlier_unload_is_kept_unless_it_is_to_be_replaced(unloading: Scene) -> None:
    first, second = await unloading.loads({"target": out(unloading)}, {"target": out(unloading)})

    assert "holds manifest.json of an earlier unload; set overwrite=true" in message(second)
    assert manifest(unloading)["job_id"] == str(first["job_id"])


async def test_a_replaced_unload_is_gone_once_the_new_one_is_there(unloading: Scene) -> None:
    how: dict[str, object] = {"target": out(unloading), "part_rows": 30, "overwrite": True}
    await unloading.load(**how)
    await unloading.pg.execute("delete from t where id > 50")

    second, third = await unloading.loads(how, how | {"part_rows": 1_000})

    assert (result(second)["rows"], result(third)["parts"]) == (50, 1)
    assert listed(unloading) == ["manifest.json", manifest(unloading)["parts"][0]["name"]]
    assert manifest(unloading)["rows"] == 50


async def test_a_manifest_of_something_else_is_never_replaced(unloading: Scene) -> None:
    folder(unloading, "out")
    unloading.write("out/manifest.json", '{"name": "app"}')

    job = await unloading.load(target=out(unloading), overwrite=True)

    assert "is not the manifest of an unload; move it away" in message(job)
    assert listed(unloading) == ["manifest.json"]


@pytest.mark.parametrize(
    "args",
    [
        {"query": "select 1 as a"},
        {"table": None},
        {"delimiter": '"'},
        {"null": "a,b"},
        {"null": "\n"},
        {"key": ["id", "id"]},
        {"format": "orc"},
        {"compression": "zstd"},
        {"format": "parquet", "header": True},
        {"part_rows": 0},
    ],
)
async def test_arguments_that_make_no_sense_are_refused(unloading: Scene, args: dict[str, object]) -> None:
    job = await unloading.load(**{"target": out(unloading)} | args)

    assert job["status"] == "failed"
    assert not is_there(unloading)


async def test_rows_without_a_value_in_their_only_column_are_not_written_as_blank_lines(unloading: Scene) -> None:
    await unloading.pg.execute("create table one (a text); insert into one values ('x'), (null), ('y'), (null)")
    how: dict[str, object] = {"table": "one", "target": out(unloading)}

    refused, written = await unloading.loads(how, how | {"null": "NULL"})
    await replace(unloading, task="load.file").load(source=f"{out(unloading)}/part-*.csv", table="back", null="NULL")

    assert "each would be a blank line" in message(refused)
    assert result(written)["rows"] == 4
    assert await unloading.rows("select count(*), count(a) from back") == [(4, 2)]
