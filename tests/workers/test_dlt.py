"""`dlt.run` loads a real source of dlt into the real database."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import PermanentError
from dataloader.storage.db import Connection, own_database
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
from dataloader.workers.pipelines.dlt_run.dataset import check_dataset
from dataloader.workers.pipelines.dlt_run.load import load
from dataloader.workers.pipelines.registry import load_all
from tests.conftest import direct_dsn
from tests.workers.harness import enqueue, eventually, finished, running_service

MODULE = "tests.workers.dlt_source"
SOURCE = f"{MODULE}:numbers"


@pytest.fixture
def settings(make_settings: Callable[..., Settings], tmp_path: Path) -> Settings:
    """A worker that may run the source of the tests, and knows its database by name too."""
    return make_settings(**_worker(tmp_path))


def _worker(folder: Path) -> dict[str, Any]:
    return {
        "workers_json": [{"queue": "dlt.run", "concurrency": 2}],
        "dl_dlt_sources": MODULE,
        "dl_data_dir": folder,
        "dl_cancel_grace_sec": 0.5,
        "dl_child_memory_mb": 1_024,
    }


async def _done(pg: Connection) -> bool:
    """Let a job that waits for its next attempt go on at once; say whether all have ended."""
    await pg.execute("update dl_jobs set available_at = now() where status = 'queued' and available_at > now()")
    return bool(await pg.fetchval("select bool_and(finished_at is not null) from dl_jobs"))


async def _ran(pg: Connection, settings: Settings, **args: Any) -> dict[str, Any]:
    job = NewJob("dlt.run", "dlt.run", {"source": SOURCE, "dataset": "landed"} | args, max_attempts=2)
    async with running_service(settings, load_all()):
        ids = await enqueue(pg, settings, job)
        await eventually(lambda: _done(pg), within_s=60, every_s=0.2)
        (row,) = await finished(pg, ids)
    values = dict(row)
    result = values["result"]
    return values | {"result": json.loads(result) if isinstance(result, str) else result}


async def _numbers(pg: Connection) -> list[int]:
    return [row["n"] for row in await pg.fetch("select n from landed.grown order by n")]


async def test_a_second_run_loads_only_what_is_new(pg: Connection, settings: Settings, tmp_path: Path) -> None:
    first = await _ran(pg, settings)
    second = await _ran(pg, settings, source_args={"upto": 5})

    assert (first["status"], second["status"]) == ("succeeded", "succeeded"), (first["error"], second["error"])
    assert first["result"]["rows"] == {"grown": 3, "names": 3}
    assert second["result"]["rows"] == {"grown": 2, "names": 3}
    assert first["result"]["load_ids"] == [await pg.fetchval("select min(load_id) from landed._dlt_loads")]
    assert set(first["result"]["schema_changes"]["names"]) >= {"id", "name"}
    assert second["result"]["schema_changes"] == {}
    assert await _numbers(pg) == [1, 2, 3, 4, 5]
    lines = await pg.fetch(
        "select source, targets, rows_in, rows_out from dl_chunks where job_id = $1", first["job_id"]
    )
    tables = [[own_database(settings).table("landed", name)] for name in ("grown", "names")]
    assert sorted(map(tuple, lines)) == [(SOURCE, tables[0], 3, 3), (SOURCE, tables[1], 3, 3)]
    assert await pg.fetchval("select string_agg(distinct name, ',') from landed.names") == "of 5"
    assert list((tmp_path / "dlt").iterdir()) == []


async def test_a_full_refresh_loads_anew_and_resources_select(pg: Connection, settings: Settings) -> None:
    await _ran(pg, settings)
    row = await _ran(pg, settings, full_refresh=True, resources=["grown"], source_args={"upto": 2})

    assert row["result"]["rows"] == {"grown": 2}
    assert await _numbers(pg) == [1, 2]


async def test_a_killed_child_loads_each_number_once(pg: Connection, settings: Settings, tmp_path: Path) -> None:
    row = await _ran(pg, settings, source_args={"die_once": str(tmp_path / "died")})

    assert (row["status"], row["attempt"]) == ("succeeded", 2), row["error"]
    assert await _numbers(pg) == [1, 2, 3]
    assert list((tmp_path / "dlt").iterdir()) == []


async def test_a_cancel_ends_a_load_in_the_middle(pg: Connection, settings: Settings, tmp_path: Path) -> None:
    args = {"source": SOURCE, "dataset": "landed", "source_args": {"endless": True}}
    async with running_service(settings, load_all()):
        ids = await enqueue(pg, settings, NewJob("dlt.run", "dlt.run", args))
        await eventually(
            lambda: pg.fetchval(
                "select progress->>'message' like 'Extract%grown%' and (progress->>'done')::float > 3"
                " from dl_jobs where job_id = $1",
                ids[0],
            )
        )
        held = [path for path in (tmp_path / "dlt").rglob("*") if path.is_file()]
        password = settings.pg_password.get_secret_value().encode()
        assert held
        assert not any(password and password in path.read_bytes() for path in held)
        await pg.execute("select dl_cancel($1, 'test')", ids[0])
        (row,) = await finished(pg, ids)

    assert row["status"] == "canceled"
    assert await pg.fetchval("select to_regclass('landed.grown')") is None


async def test_an_error_of_the_source_says_file_and_line(pg: Connection, settings: Settings) -> None:
    row = await _ran(pg, settings, source_args={"fail": True})

    assert row["status"] == "failed"
    assert "ValueError: on purpose" in str(row["error"])
    assert "dlt_source.py:" in str(row["error"])


REFUSED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"source": "os.path:join"}, "DL_DLT_SOURCES"),
    ({"source": f"{MODULE}_other:numbers"}, "DL_DLT_SOURCES"),
    ({"source": f"{MODULE}:nothing"}, "no function"),
    ({"source": f"{MODULE}:unfit"}, "@dlt.source"),
    ({"resources": ["nothing"]}, "it has grown, names"),
    ({"connection": "nowhere"}, "DL_CONNECTIONS"),
    ({"dataset": "public"}, "the schema of Dataloader's own tables (PG_SCHEMA); name another one"),
    ({"dataset": "public", "connection": "same"}, "the schema of Dataloader's own tables"),
    ({"dataset": "pg_catalog"}, "a schema of the server's own"),
    ({"dataset": "information_schema"}, "a schema of the server's own"),
    ({"dataset": "pub__lic"}, "dlt would call the dataset pub__lic otherwise"),
    ({"dataset": "landed_"}, "dlt would call the dataset landed_ otherwise"),
)


async def test_what_cannot_be_run_is_refused_with_the_reason(
    pg: Connection, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    own = direct_dsn(make_settings())
    settings = make_settings(**_worker(tmp_path), dl_connections={"same": own})
    jobs = [
        NewJob("dlt.run", "dlt.run", {"source": SOURCE, "dataset": f"landed_{number}"} | args, max_attempts=2)
        for number, (args, _) in enumerate(REFUSED)
    ]
    async with running_service(settings, load_all()):
        rows = await finished(pg, await enqueue(pg, settings, *jobs), within_s=60)

    assert [(row["status"], row["attempt"]) for row in rows] == [("failed", 1)] * len(REFUSED)
    assert all(reason in str(row["error"]) for row, (_, reason) in zip(rows, REFUSED, strict=True))


async def test_a_schema_of_the_same_name_in_another_database_is_loaded_into(
    pg: Connection, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    other = f"{await pg.fetchval('select current_database()')}_other"
    await pg.execute(f'create database "{other}"')
    try:
        own = make_settings()
        dsn = direct_dsn(make_settings()).replace(str(own.pg_database), other)
        row = await _ran(
            pg, make_settings(**_worker(tmp_path), dl_connections={"other": dsn}), dataset="public", connection="other"
        )
    finally:
        await pg.execute(f'drop database "{other}" with (force)')

    assert row["status"] == "succeeded", row["error"]


async def test_a_schema_whose_staging_would_be_dataloaders_is_refused(
    make_settings: Callable[..., Settings],
) -> None:
    with pytest.raises(PermanentError, match="would be loaded into own_staging"):
        await check_dataset(DltRunArgs(source=SOURCE, dataset="own"), make_settings(pg_schema="own_staging"))


async def test_a_password_is_not_shown(pg: Connection, make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = make_settings(
        workers_json=[{"queue": "dlt.run", "concurrency": 1}],
        dl_dlt_sources=MODULE,
        dl_data_dir=tmp_path,
        dl_connections={"away": "postgresql://user:hidden-word@127.0.0.1:1/nothing"},
    )
    row = await _ran(pg, settings, connection="away")

    assert row["status"] == "failed"
    assert "hidden-word" not in str(row)
    assert "127.0.0.1" in str(row["error"])


async def test_a_second_job_of_the_same_name_waits_uncharged(pg: Connection, settings: Settings) -> None:
    endless = {"source": SOURCE, "dataset": "landed", "source_args": {"endless": True}}
    async with running_service(settings, load_all()):
        ids = await enqueue(pg, settings, NewJob("dlt.run", "dlt.run", endless))
        await eventually(
            lambda: pg.fetchval("select progress->>'message' like 'Extract%' from dl_jobs where job_id = $1", ids[0])
        )
        others = await enqueue(pg, settings, NewJob("dlt.run", "dlt.run", {"source": SOURCE, "dataset": "landed"}))
        await eventually(
            lambda: pg.fetchval(
                "select bool_or(data::text like '%is not done%') from dl_job_events where job_id = $1", others[0]
            )
        )
        assert await pg.fetchval("select attempt from dl_jobs where job_id = $1", others[0]) == 0
        await pg.execute("select dl_cancel($1, 'test')", ids[0])
        await eventually(lambda: _done(pg), within_s=60, every_s=0.2)

    assert await _numbers(pg) == [1, 2, 3]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "dlt", None)

    with pytest.raises(PermanentError, match=r"dlt\[postgres\]"):
        load(DltRunArgs(source=SOURCE, dataset="landed"), None, {"password": ""}, tmp_path)  # type: ignore[arg-type]
