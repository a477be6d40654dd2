"""How fast a backlog of no-op jobs is worked off by worker processes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil

from benchmarks.pipelines import QUEUE, TASK
from benchmarks.processes import cpu_seconds, running
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

ENQUEUE = (
    "select count(*) from dl_enqueue_many((select jsonb_agg($1::jsonb) from generate_series(1, $2)), p_notify => false)"
)
ENQUEUE_KEYED = """
select count(*) from dl_enqueue_many((
  select jsonb_agg($1::jsonb || jsonb_build_object('lock_key', 'key-' || n % $3::integer))
    from generate_series(1, $2) n), p_notify => false)
"""
RATE = "select count(*) / extract(epoch from max(finished_at) - min(started_at)) from dl_jobs where seq >= $1"
SHARES = "select count(*)::float8 from dl_jobs where seq >= $1 group by worker_id order by 1"
LONG_S = 900.0
"""Most seconds for filling or draining anything here."""
_BULK = 10_000


@dataclass(frozen=True, slots=True)
class Filled:
    """The jobs that were enqueued last, which are to be measured.

    Attributes:
        rate: Jobs per second by bulk enqueue.
        first_seq: Where they begin.
        last_id: The job that is claimed last.
        lock_keys: Keys they have between them.
    """

    rate: float
    first_seq: int
    last_id: UUID
    lock_keys: list[str]


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain showed.

    Attributes:
        rate: Jobs per second, from the first claim to the last end by the server's clock.
        enqueue_rate: Jobs per second by bulk enqueue.
        cpu_us: CPU time of the worker processes per job, their start left out, in microseconds.
        busy_share: Part of all cores that was in use, by whomever.
        least_share: Part of the jobs that the process with the fewest had.
    """

    rate: float
    enqueue_rate: float
    cpu_us: float
    busy_share: float
    least_share: float


@dataclass(frozen=True, slots=True)
class Worked:
    """What working off took: CPU seconds of the worker processes, and the part of all cores that was in use."""

    cpu_s: float
    busy_share: float


async def clear(connection: Connection) -> None:
    """Empty the tables of jobs."""
    await connection.execute("truncate dl_jobs, dl_job_events, dl_queues, dl_workers")


async def fill(connection: Connection, jobs: int, *, keys: int = 0) -> Filled:
    """Enqueue jobs in bulk, on as many lock keys in turn, on none if 0."""
    item = json.dumps({"queue": QUEUE, "task": TASK, "args": {}})
    before = await connection.fetchval("select coalesce(max(seq), 0) from dl_jobs")
    started_s = time.perf_counter()
    for start in range(0, jobs, _BULK):
        count = min(_BULK, jobs - start)
        if keys:
            await connection.execute(ENQUEUE_KEYED, item, count, keys, timeout=LONG_S)
        else:
            await connection.execute(ENQUEUE, item, count, timeout=LONG_S)
    rate = jobs / (time.perf_counter() - started_s)
    last_id = await connection.fetchval("select job_id from dl_jobs order by seq desc limit 1")
    return Filled(rate, before + 1, last_id, [f"key-{number}" for number in range(keys)])


async def work(
    connection: Connection, environment: dict[str, str], filled: Filled, *, concurrency: int, processes: int = 1
) -> Worked:
    """Start worker processes, let them have the jobs once all are there; return what it took until those ended."""
    workers = json.dumps([{"queue": QUEUE, "concurrency": concurrency}])
    await connection.execute("insert into dl_queues (queue, paused_at) values ($1, now())", QUEUE)
    async with asyncio.timeout(LONG_S), AsyncExitStack() as stack:
        pids = [
            await stack.enter_async_context(running("worker", environment | {"WORKERS_JSON": workers}))
            for _ in range(processes)
        ]
        there = "select count(*) = cardinality($1::integer[]) from dl_workers where pid = any ($1)"
        while not await connection.fetchval(there, pids):
            await asyncio.sleep(0.05)
        started_cpu_s, before = sum(map(cpu_seconds, pids)), psutil.cpu_times()
        await resume(connection, filled.lock_keys)
        await ended(connection, filled)
        return Worked(sum(map(cpu_seconds, pids)) - started_cpu_s, busy_share(before, psutil.cpu_times()))


def busy_share(before: Any, after: Any) -> float:
    """Return the part of all cores that was in use between two readings of their times."""
    passed = {name: getattr(after, name) - getattr(before, name) for name in before._fields}
    idle = passed["idle"] + passed.get("iowait", 0.0)
    guests = passed.get("guest", 0.0) + passed.get("guest_nice", 0.0)
    return float(1 - idle / (sum(passed.values()) - guests))


async def ended(connection: Connection, filled: Filled) -> None:
    """Wait until the jobs have ended."""
    while not await connection.fetchval("select finished_at from dl_jobs where job_id = $1", filled.last_id):
        await asyncio.sleep(0.02)
    rest = "select exists (select from dl_jobs where seq >= $1 and finished_at is null)"
    while await connection.fetchval(rest, filled.first_seq):
        await asyncio.sleep(0.02)


async def resume(connection: Connection, lock_keys: list[str]) -> None:
    """Do what the service does to resume a queue: open it, offer what waits for a key, wake the workers."""
    await connection.execute("delete from dl_queues")
    if lock_keys:
        await connection.execute("select dl_promote($1, '{}')", lock_keys)
    await connection.execute("select pg_notify('dl_public', 'queue:' || $1)", QUEUE)


async def measure(
    settings: Settings,
    environment: dict[str, str],
    *,
    jobs: int,
    concurrency: int,
    keys: int = 0,
    processes: int = 1,
    beside: Callable[[Connection], Awaitable[None]] | None = None,
) -> Drained:
    """Fill the queue, start workers, wait until the jobs are done.

    Args:
        settings: Where the database is.
        environment: Of the workers.
        jobs: How many.
        concurrency: Slots of each worker.
        keys: Lock keys the jobs have between them.
        processes: Worker processes.
        beside: Fills in what is there besides the jobs, before them.
    """
    connection = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await clear(connection)
        if beside:
            await beside(connection)
        filled = await fill(connection, jobs, keys=keys)
        await connection.execute("vacuum analyze dl_jobs")
        worked = await work(connection, environment, filled, concurrency=concurrency, processes=processes)
        rate = await connection.fetchval(RATE, filled.first_seq)
        shares = [row[0] for row in await connection.fetch(SHARES, filled.first_seq)]
        least_share = min(shares) / jobs if len(shares) == processes else 0.0
        return Drained(float(rate), filled.rate, worked.cpu_s / jobs * 1e6, worked.busy_share, least_share)
    finally:
        await connection.close()
