"""One load after the other: files in a folder, a worker, and what became of the job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.workers.harness import enqueue, eventually, finished, job_row, running_service


@dataclass
class Scene:
    """A folder that loads may read, and a database.

    Attributes:
        folder: Where the files are.
        pg: The test's own connection.
    """

    folder: Path
    settings: Settings
    pg: Connection
    task: str = "load.file"

    def write(self, name: str, content: str | bytes) -> str:
        """Write a file; return its path."""
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    async def load(self, **args: object) -> asyncpg.Record:
        """Run one load to its end; return the job's row."""
        (job,) = await self.loads(args)
        return job

    async def loads(self, *several: dict[str, object]) -> list[asyncpg.Record]:
        """Run loads one after the other in one worker; return the jobs' rows."""
        load_all()
        rows = []
        async with running_service(self.settings, REGISTRY):
            for args in several:
                job = NewJob(self.task, self.task, {"table": "t"} | args, max_attempts=1)
                rows += await finished(self.pg, await enqueue(self.pg, self.settings, job))
        return rows

    async def put_off(self, **args: object) -> asyncpg.Record:
        """Run one load until it has asked to be run later; return the job's row."""
        load_all()
        async with running_service(self.settings, REGISTRY):
            (job_id,) = await enqueue(self.pg, self.settings, NewJob(self.task, self.task, {"table": "t"} | args))

            async def is_put_off() -> bool:
                row = await job_row(self.pg, job_id)
                return bool(row["status"] == "queued" and row["epoch"] == 1)

            await eventually(is_put_off)
        return await job_row(self.pg, job_id)

    async def ended(self, job_id: UUID) -> list[asyncpg.Record]:
        """Run a job that is queued already to its end; return its row."""
        load_all()
        async with running_service(self.settings, REGISTRY):
            return await finished(self.pg, [job_id])

    async def rows(self, query: str = "select * from t") -> list[tuple[Any, ...]]:
        """Return the rows of a query as tuples."""
        return [tuple(row) for row in await self.pg.fetch(query)]

    async def types(self, table: str = "t") -> dict[str, str]:
        """Return a table's columns and their types."""
        rows = await self.pg.fetch(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute"
            " where attrelid = $1::text::regclass and attnum > 0 and not attisdropped order by attnum",
            table,
        )
        return {row[0]: row[1] for row in rows}


def result(job: asyncpg.Record) -> dict[str, Any]:
    """Return what a job that succeeded says it did."""
    assert job["status"] == "succeeded", job["error"]
    answer: dict[str, Any] = json.loads(job["result"])
    return answer


def message(job: asyncpg.Record) -> str:
    """Return why a job failed."""
    assert job["status"] == "failed", job["status"]
    return str(json.loads(job["error"])["message"])
