"""Queues of a few lines each under one old snapshot: how long claims stay fast, and what makes the difference.

Each claims and completes batches on one connection. The snapshot keeps every row version since it was taken, and every
index entry that leads to one; a claim that looks for its jobs from the start steps over all that were claimed before.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.drain import LONG_S
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

BATCH = 500
SEGMENT = 25_000
_JOBS = """
drop table if exists design_jobs, design_ready, design_events;
create table design_jobs (
  id bigint primary key, ready boolean not null default true, priority smallint not null default 100,
  status text not null default 'queued', args jsonb not null default '{}',
  started_at timestamptz, finished_at timestamptz);
create table design_ready (id bigint primary key, priority smallint not null default 100);
create table design_events (event_id bigint generated always as identity primary key, job_id bigint not null,
  at timestamptz not null default clock_timestamp(), kind text not null);
"""
_FILL = "insert into design_jobs (id) select generate_series(1, {jobs});"
_FILL_READY = "insert into design_ready (id) select generate_series(1, {jobs}); vacuum analyze design_ready;"
_RUN = """
, claimed as (
  update design_jobs j set status = 'running', ready = false, started_at = clock_timestamp()
   where j.id = any (array(select id from picked)) returning j.id, j.args
), logged as (insert into design_events (job_id, kind) select id, 'claimed' from claimed)
select id, args from claimed order by id
"""
_SETTLE = """
with done as (
  update design_jobs set status = 'succeeded', finished_at = clock_timestamp()
   where id = any ($1::bigint[]) and status = 'running' returning id
) insert into design_events (job_id, kind) select id, 'succeeded' from done
"""
_FROM_JOBS = """
with picked as materialized (
  select id from design_jobs where ready and (priority, id) > (0::smallint, $1::bigint)
   order by priority, id limit $2 for no key update skip locked
)
"""
_FROM_READY = """
with picked as materialized (
  delete from {ready} where id = any (array(
    select id from {ready} where (priority, id) > (0::smallint, $1::bigint)
     order by priority, id limit $2 for update skip locked)) returning id
)
"""


@dataclass(frozen=True, slots=True)
class Design:
    """A queue.

    Attributes:
        name: What is special about it.
        fill: Statements that make it ready, with the number of jobs to be filled in.
        claim: Statement that claims after an id as many as wanted; the ready table's name is to be filled in.
        marked: Whether claims begin behind the last one.
        segmented: Whether ready jobs lie in tables of a few thousand, each truncated once it is empty.
    """

    name: str
    fill: str
    claim: str
    marked: bool = False
    segmented: bool = False


_READY_INDEX = "create index on design_jobs (priority, id) where ready;"
_VACUUM = "vacuum analyze design_jobs;"
_NARROW_INDEX = "create index on design_ready (priority, id);"

DESIGNS = (
    Design("one table, partial index, from the start", _READY_INDEX + _FILL + _VACUUM, _FROM_JOBS),
    Design("narrow ready table, from the start", _NARROW_INDEX + _FILL + _FILL_READY + _VACUUM, _FROM_READY),
    Design("one table, partial index, from a low-water mark", _READY_INDEX + _FILL + _VACUUM, _FROM_JOBS, marked=True),
    Design(
        "narrow ready table, from a low-water mark",
        _NARROW_INDEX + _FILL + _FILL_READY + _VACUUM,
        _FROM_READY,
        marked=True,
    ),
    Design(f"ready tables of {SEGMENT:,} jobs, truncated in turn", _FILL + _VACUUM, _FROM_READY, segmented=True),
)


async def edges(settings: Settings, design: Design, *, jobs: int, edge: int) -> tuple[float, float]:
    """Drain a queue under one old snapshot; return the rates of the last and of the first jobs, in jobs per second."""
    connection = await connect(settings, purpose="bench design", command_timeout_s=LONG_S)
    holder = await connect(settings, purpose="bench snapshot", command_timeout_s=LONG_S)
    try:
        tables = await _prepare(connection, design, jobs)
        async with holder.transaction(isolation="repeatable_read"):
            await holder.execute("set local idle_in_transaction_session_timeout = 0")
            await holder.execute("select count(*) from design_jobs")
            times_s = await _drain(connection, design, tables)
        first = next(place for place, (done, _) in enumerate(times_s) if done >= edge)
        last = next(place for place, (done, _) in enumerate(times_s) if done >= jobs - edge)
        end = len(times_s) - 1
        return _rate(times_s, last, end), _rate(times_s, 0, first)
    finally:
        await holder.close()
        await connection.close()


def _rate(times_s: Sequence[tuple[int, float]], begin: int, end: int) -> float:
    return (times_s[end][0] - times_s[begin][0]) / (times_s[end][1] - times_s[begin][1])


async def _prepare(connection: Connection, design: Design, jobs: int) -> list[str]:
    """Create the tables and fill them; return those that are claimed from."""
    for statement in (_JOBS + design.fill.format(jobs=jobs)).split(";"):
        if statement.strip():
            await connection.execute(statement)
    if not design.segmented:
        return ["design_ready"]
    tables = []
    for number, begin in enumerate(range(0, jobs, SEGMENT)):
        tables.append(name := f"design_ready_{number}")
        await connection.execute(f"drop table if exists {name}; create table {name} (like design_ready including all)")
        await connection.execute(
            f"insert into {name} (id) select generate_series({begin + 1}, {min(begin + SEGMENT, jobs)})"
        )
        await connection.execute(f"create index on {name} (priority, id); analyze {name}")
    return tables


async def _drain(connection: Connection, design: Design, tables: Sequence[str]) -> list[tuple[int, float]]:
    """Claim and complete everything; return how many were done at what time."""
    times_s, done, mark = [(0, time.perf_counter())], 0, 0
    for table in tables:
        claim = design.claim.format(ready=table) + _RUN
        while rows := await connection.fetch(claim, mark, BATCH):
            await connection.execute(_SETTLE, [row["id"] for row in rows])
            done += len(rows)
            times_s.append((done, time.perf_counter()))
            if design.marked:
                mark = rows[-1]["id"]
        if design.segmented:
            await connection.execute(f"drop table {table}")
    return times_s
