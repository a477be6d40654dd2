"""What an old snapshot, and statistics taken at the wrong moment, do to a long drain."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.drain import LONG_S, clear, fill, work
from benchmarks.scale import CONCURRENCY
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

EDGES = """
with ends as (
  select min(started_at) as start, array_agg(finished_at order by finished_at) as at, count(*)::integer as jobs
    from dl_jobs
)
select $1::integer / extract(epoch from at[jobs] - at[jobs - $1]) as last,
       $1 / extract(epoch from at[$1] - start) as first
  from ends
"""
GAPS = """
with claims as (
  select min(at) as at from dl_job_events where kind = 'claimed' group by xmin::text
), gaps as (
  select extract(epoch from at - lag(at) over (order by at)) * 1000 as ms from claims
)
select max(ms) as longest, percentile_cont(0.5) within group (order by ms) as median from gaps where ms is not null
"""


@asynccontextmanager
async def old_snapshot(settings: Settings) -> AsyncIterator[None]:
    """Hold a snapshot open for the time of the block."""
    holder = await connect(settings, purpose="bench snapshot")
    seen = "select count(*) from dl_jobs where finished_at is not null"
    try:
        async with holder.transaction(isolation="repeatable_read"):
            await holder.execute("set local idle_in_transaction_session_timeout = 0")
            before = await holder.fetchval(seen)
            yield
            assert await holder.fetchval(seen, timeout=LONG_S) == before
    finally:
        await holder.close()


async def edges(settings: Settings, environment: dict[str, str], *, jobs: int, edge: int) -> tuple[float, float]:
    """Drain under one old snapshot; return the rates of the last and of the first jobs, in jobs per second."""
    connection = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await clear(connection)
        filled = await fill(connection, jobs)
        await connection.execute("vacuum analyze dl_jobs")
        async with old_snapshot(settings):
            await work(connection, environment, filled, concurrency=CONCURRENCY)
        row = await connection.fetchrow(EDGES, edge)
        assert row
        return float(row["last"]), float(row["first"])
    finally:
        await connection.close()


async def claim_gaps(settings: Settings, environment: dict[str, str], *, jobs: int) -> tuple[float, float]:
    """Drain with statistics of an empty table; return the longest and the median time between claims, in ms.

    A claim is known by the transaction of its events: the start is noted row by row.
    """
    connection = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await clear(connection)
        await _analyze_empty(connection)
        filled = await fill(connection, jobs)
        await work(connection, environment, filled, concurrency=CONCURRENCY)
        row = await connection.fetchrow(GAPS)
        assert row
        return float(row["longest"]), float(row["median"])
    finally:
        await connection.close()


async def _analyze_empty(connection: Connection) -> None:
    """Let the planner believe that the table has pages and no rows, and forget what it knew before."""
    await fill(connection, 1_000)
    await connection.execute("delete from dl_jobs")
    await connection.execute("delete from pg_statistic where starelid = 'dl_jobs'::regclass")
    await connection.execute("analyze dl_jobs")
