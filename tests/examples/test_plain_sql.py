"""examples/plain_sql: jobs that nothing but SQL has queued."""

from __future__ import annotations

import json
from pathlib import Path

import asyncpg

from dataloader.config import Settings
from dataloader.workers.pipelines.registry import load_all
from tests.workers.harness import finished, running_service

FOLDER = Path(__file__).parents[2] / "examples" / "plain_sql"


async def test_every_way_in_is_run(settings: Settings, pg: asyncpg.Connection[asyncpg.Record]) -> None:
    async with running_service(settings, load_all()):
        await pg.execute((FOLDER / "jobs.sql").read_text("utf-8"))
        job_ids = [row["job_id"] for row in await pg.fetch("select job_id from dl_jobs order by seq")]
        rows = await finished(pg, job_ids)

    assert [row["status"] for row in rows] == ["succeeded"] * 5
    assert [json.loads(row["args"]).get("chunks") for row in rows] == [2, None, None, 1, 3]
    assert rows[2]["started_at"] >= rows[2]["available_at"]


async def test_a_row_and_its_job_are_one_transaction(
    settings: Settings, pg: asyncpg.Connection[asyncpg.Record]
) -> None:
    await pg.execute((FOLDER / "inbox.sql").read_text("utf-8"))
    async with running_service(settings, load_all()):
        rolled_back = pg.transaction()
        await rolled_back.start()
        await pg.execute("insert into inbox (file) values ('a.csv')")
        await rolled_back.rollback()
        assert await pg.fetchval("select count(*) from dl_jobs") == 0

        await pg.execute("insert into inbox (file) values ('a.csv'), ('b.csv')")
        job_ids = [row["job_id"] for row in await pg.fetch("select job_id from dl_jobs order by seq")]
        rows = await finished(pg, job_ids)

    assert [json.loads(row["labels"]) for row in rows] == [{"file": "a.csv"}, {"file": "b.csv"}]
    assert {row["status"] for row in rows} == {"succeeded"}
