"""Loads from files and from tables, beside what psql makes of the same."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import dlt_ingest, peers
from benchmarks.drain import LONG_S
from benchmarks.processes import base_environment, running
from dataloader.config import Settings
from dataloader.embedded.binaries import find_binaries
from dataloader.storage.db import Connection, connect

HEADER = "id,trade_date,series,open,high,low,settle,volume\n"
TABLE = """
create table {} (id bigint, trade_date date, series text, open numeric, high numeric, low numeric, settle numeric,
                 volume bigint)
"""
QUEUES = ("load.file", "load.sql", "unload.table", "starts")
_ENQUEUE = "select dl_enqueue(queue => $1, task => $2, args => $3::jsonb, max_attempts => 1)"
_LAG_S = 8.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load showed.

    Attributes:
        seconds: From the trigger to the end.
        memory_mb: Most memory of the worker above what it had at rest.
    """

    seconds: float
    memory_mb: float


def write_source(path: Path, rows: int) -> None:
    """Write rows of prices, some in quotes; about 66 bytes each."""
    draw = random.Random(1)  # noqa: S311 - the same rows every time
    with path.open("w", encoding="utf-8") as file:
        file.write(HEADER)
        for n in range(rows):
            prices = ",".join(f"{draw.random() * 1_000:.3f}" for _ in range(3))
            day = f"2026-{1 + n % 12:02d}-{1 + n % 28:02d}"
            file.write(f'{n},{day},NKU{n % 1_000},{prices},"{draw.random():.3f}",{n % 9_973}\n')


class Stage:
    """A worker process, a folder with a file, and psql.

    Args:
        settings: Where the database is.
        connection: To it.
        source: The file.
        worker: The worker's process.
    """

    def __init__(self, settings: Settings, connection: Connection, source: Path, worker: psutil.Process) -> None:
        self._settings = settings
        self.connection = connection
        self.source = source
        self.worker = worker

    async def empty(self, *tables: str, key: bool = False) -> None:
        """Create tables anew, and have what was written before out of the way."""
        for table in tables:
            await self.connection.execute(f"drop table if exists {table}")
            await self.connection.execute(TABLE.format(table))
            if key:
                await self.connection.execute(f"alter table {table} add primary key (id)")
        await self.connection.execute("checkpoint")

    async def load(self, task: str, args: Mapping[str, object]) -> Loaded:
        """Run a load to its end."""
        rest = most = self.worker.memory_info().rss
        started_s = time.perf_counter()
        job_id = await self.connection.fetchval(_ENQUEUE, task, task, json.dumps(args))
        ended = "select status from dl_jobs where job_id = $1 and finished_at is not null"
        async with asyncio.timeout(LONG_S):
            while (status := await self.connection.fetchval(ended, job_id)) is None:
                most = max(most, self.worker.memory_info().rss)
                await asyncio.sleep(0.02)
        seconds = time.perf_counter() - started_s
        assert status == "succeeded", await self.connection.fetchval(
            "select error from dl_jobs where job_id = $1", job_id
        )
        return Loaded(seconds, (most - rest) / 1e6)

    async def psql(self, *commands: str) -> float:
        """Run commands of psql in a pipe; return the seconds it took."""
        return await self._piped(*(f'-c "{command}"' for command in commands))

    async def psql_file(self, script: Path) -> float:
        """Run a script; return the seconds it took."""
        return await self._piped(f"-f {script}")

    async def _piped(self, *calls: str) -> float:
        program = find_binaries(None, major=None).bindir / "psql"
        place = f"-h {self._settings.pg_host} -U {self._settings.pg_user} -d {self._settings.pg_database}"
        pipe = " | ".join(f"{program} -X -q -v ON_ERROR_STOP=1 {place} {call}" for call in calls)
        started_s = time.perf_counter()
        process = await asyncio.create_subprocess_shell(pipe)
        assert await process.wait() == 0
        return time.perf_counter() - started_s

    async def dlt(self, table: str, how: str) -> float | None:
        """Load the file by dlt into a table of its own; return the seconds it took, None where it is not installed."""
        await self.connection.execute("drop schema if exists dlt_bench cascade; checkpoint")
        where = (str(self._settings.pg_host), self._settings.pg_user, str(self._settings.pg_database))
        process = await asyncio.create_subprocess_exec(
            peers.python(), dlt_ingest.__file__, *where, str(self.source), table, how, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        return None if process.returncode else float(output)

    async def psql_merge(self, table: str) -> float:
        """Copy the file into a stage and merge it, by hand; return the seconds it took."""
        key, names = "id", "id, trade_date, series, open, high, low, settle, volume"
        changing = names.removeprefix("id, ").split(", ")
        script = self.source.with_suffix(".sql")
        assignments = ", ".join(f"{name} = excluded.{name}" for name in changing)
        script.write_text(
            f"begin; create temp table stage (like {table}, n bigint generated always as identity) on commit drop;\n"
            f"\\copy stage ({names}) from '{self.source}' (format csv, header)\n"
            f"insert into {table} as t ({names}) select {names} from (select distinct on ({key}) {names} from stage"
            f" order by {key}, n desc) s on conflict ({key}) do update set {assignments}; commit;\n"
        )
        return await self.psql_file(script)

    @property
    def dsn(self) -> str:
        """Where the database is, for other drivers."""
        return _dsn(self._settings)

    async def lag_ms(self) -> float:
        """Return how late the worker's loop wakes up, the 99.9th percentile of some seconds."""
        ended = "select result from dl_jobs where job_id = $1 and finished_at is not null"
        connection: Any = await connect(self._settings, purpose="bench")
        try:
            job_id = await connection.fetchval(_ENQUEUE, "starts", "bench.probe", json.dumps({"seconds": _LAG_S}))
            async with asyncio.timeout(LONG_S):
                while (result := await connection.fetchval(ended, job_id)) is None:
                    await asyncio.sleep(0.05)
        finally:
            await connection.close()
        late: list[float] = sorted(json.loads(result)["late_ms"])
        return late[min(int(len(late) * 0.999), len(late) - 1)]


@asynccontextmanager
async def staged(settings: Settings, folder: Path, *, rows: int) -> AsyncIterator[Stage]:
    """Write the file, start the worker, and wait until it works."""
    source = folder / f"prices-{rows}.csv"
    if not source.exists():
        await asyncio.to_thread(write_source, source, rows)
    environment = base_environment(settings) | {
        "WORKERS_JSON": json.dumps([{"queue": queue, "concurrency": 2} for queue in QUEUES]),
        "DL_SOURCE_ROOTS": str(folder),
        "DL_TARGET_ROOTS": str(folder),
        "DL_CONNECTIONS": json.dumps({"here": _dsn(settings)}),
    }
    connection: Any = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        async with running("worker", environment) as pid:
            while not await connection.fetchval("select exists (select from dl_workers where pid = $1)", pid):
                await asyncio.sleep(0.05)
            yield Stage(settings, connection, source, psutil.Process(pid))
    finally:
        await connection.close()


def _dsn(settings: Settings) -> str:
    return f"postgresql://{settings.pg_user}@/{settings.pg_database}?host={settings.pg_host}"
