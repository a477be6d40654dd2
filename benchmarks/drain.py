"""How fast a backlog of no-op jobs is worked off by one worker process."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from benchmarks.pipelines import QUEUE, TASK
from benchmarks.processes import cpu_seconds, running
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

ENQUEUE = (
    "select count(*) from dl_enqueue_many((select jsonb_agg($1::jsonb) from generate_series(1, $2)), p_notify => false)"
)
_BULK = 10_000


@dataclass(frozen=True, slots=True)
class Drained:
    """What a drain showed.

    Attributes:
        rate: Jobs per second, from the first claim to the last end by the server's clock.
        enqueue_rate: Jobs per second by bulk enqueue.
        cpu_us: CPU time of the worker process per job, its start left out, in microseconds.
    """

    rate: float
    enqueue_rate: float
    cpu_us: float


async def fill(connection: Connection, jobs: int) -> float:
    """Enqueue jobs in bulk; return jobs per second."""
    item = json.dumps({"queue": QUEUE, "task": TASK, "args": {}})
    started_s = time.perf_counter()
    for start in range(0, jobs, _BULK):
        await connection.execute(ENQUEUE, item, min(_BULK, jobs - start), timeout=120)
    return jobs / (time.perf_counter() - started_s)


async def measure(settings: Settings, environment: dict[str, str], *, jobs: int, concurrency: int) -> Drained:
    """Fill the queue, start a worker, wait until it is empty."""
    connection = await connect(settings, purpose="bench")
    try:
        await connection.execute("truncate dl_jobs, dl_job_events, dl_queues, dl_workers")
        enqueue_rate = await fill(connection, jobs)
        await connection.execute("vacuum analyze dl_jobs", timeout=120)
        workers = json.dumps([{"queue": QUEUE, "concurrency": concurrency}])
        await connection.execute("insert into dl_queues (queue, paused_at) values ($1, now())", QUEUE)
        async with running("worker", environment | {"WORKERS_JSON": workers}) as pid:
            while not await connection.fetchval("select exists (select from dl_workers where pid = $1)", pid):
                await asyncio.sleep(0.05)
            started_cpu_s = cpu_seconds(pid)
            await connection.execute("delete from dl_queues")
            await connection.execute("select pg_notify('dl_public', 'queue:' || $1)", QUEUE)
            while await connection.fetchval("select exists (select from dl_jobs where finished_at is null)"):
                await asyncio.sleep(0.05)
            cpu_s = cpu_seconds(pid) - started_cpu_s
        took_s = await connection.fetchval("select extract(epoch from max(finished_at) - min(started_at)) from dl_jobs")
        return Drained(jobs / float(took_s), enqueue_rate, cpu_s / jobs * 1e6)
    finally:
        await connection.close()
