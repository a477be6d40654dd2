"""Ten thousand sleeping jobs in one worker process: memory, heartbeats, lateness of its loop, start of new jobs."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psutil

from benchmarks import latency
from benchmarks.drain import ENQUEUE, LONG_S, clear
from benchmarks.latency import Latency, latency_of
from benchmarks.processes import cpu_seconds, running
from benchmarks.starts import Starts, listening
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

SLEEPERS = "sleepers"
STATEMENTS = "select count(distinct xmin::text) from dl_jobs where queue = $1 and status = 'running'"
"""Transactions that have written the last heartbeat of every job: as many as it took statements."""
_BULK = 10_000
_WARM_UP_S = 2.0
_SETTLE_S = 3.0
_PERIOD_S = 0.2
_LEASES = "dataloader-leases"


@dataclass(frozen=True, slots=True)
class State:
    """How the process does for some time.

    Attributes:
        cpu_share: Part of a core that it took.
        start: Of new jobs, which arrive at random instants.
        lag: How late the pipelines' loop wakes up.
        thread_share: Part of a core that the thread of the heartbeats took.
        server_share: Part of a core that the server took for them.
    """

    cpu_share: float
    start: Latency
    lag: Latency
    thread_share: float
    server_share: float


@dataclass(frozen=True, slots=True)
class Many:
    """What so many running jobs cost.

    Attributes:
        memory_kb: Per job, in units of 1,000 bytes.
        statements: That renewed all leases at a heartbeat.
    """

    jobs: int
    memory_kb: float
    statements: int
    idle: State
    busy: State


async def measure(settings: Settings, *, jobs: int, seconds: float) -> Many:
    """Look at a process for a while at rest, then while it runs the jobs."""
    connection = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await clear(connection)
        async with (
            listening() as starts,
            running("worker", _environment(settings, starts, jobs), end=signal.SIGKILL) as pid,
        ):
            watch = _Watch(connection, starts, psutil.Process(pid))
            await latency.until(watch.is_there)
            idle = await watch.state(seconds)
            before_bytes = watch.process.memory_info().rss
            await _run(connection, jobs)
            busy = await watch.state(seconds)
            memory_kb = (watch.process.memory_info().rss - before_bytes) / jobs / 1e3
            assert await _running(connection) == jobs
            return Many(jobs, memory_kb, await connection.fetchval(STATEMENTS, SLEEPERS), idle, busy)
    finally:
        await connection.close()


def _environment(settings: Settings, starts: Starts, jobs: int) -> dict[str, str]:
    workers = [{"queue": SLEEPERS, "concurrency": jobs}, *latency.WORKERS]
    return latency.environment(settings, starts) | {"WORKERS_JSON": json.dumps(workers)}


async def _run(connection: Connection, jobs: int) -> None:
    """Have all slots taken."""
    item = json.dumps({"queue": SLEEPERS, "task": "bench.sleep"})
    for start in range(0, jobs, _BULK):
        await connection.execute(ENQUEUE, item, min(_BULK, jobs - start))
    await connection.execute("select pg_notify('dl_public', 'queue:' || $1)", SLEEPERS)
    async with asyncio.timeout(LONG_S):
        while await _running(connection) < jobs:
            await asyncio.sleep(0.2)


async def _running(connection: Connection) -> int:
    count = await connection.fetchval("select count(*) from dl_jobs where queue = $1 and status = 'running'", SLEEPERS)
    return int(count)


class _Watch:
    """Looks at a worker process from outside, and from within by a job."""

    def __init__(self, connection: Connection, starts: Starts, process: psutil.Process) -> None:
        self.process = process
        self._connection = connection
        self._turn = asyncio.Lock()
        self._starts = starts

    async def is_there(self) -> bool:
        """Return whether it has said that it lives."""
        sql = "select exists (select from dl_workers where pid = $1)"
        return bool(await self._fetch(sql, self.process.pid))

    async def state(self, seconds: float) -> State:
        """Return how it does for so long."""
        await self._arrivals(_WARM_UP_S, period_s=0.02)
        threads = (await self._probe(0.0))["threads"]
        await asyncio.sleep(_SETTLE_S)
        server = psutil.Process(await self._backend())
        started_s, before = time.perf_counter(), self._cpu(threads[_LEASES], server)
        async with asyncio.TaskGroup() as group:
            arriving = group.create_task(self._arrivals(seconds, period_s=_PERIOD_S))
            probing = group.create_task(self._probe(seconds))
        passed_s, after = time.perf_counter() - started_s, self._cpu(threads[_LEASES], server)
        whole, thread, backend = ((end - start) / passed_s for start, end in zip(before, after, strict=True))
        lag = latency_of(probing.result()["late_ms"])
        return State(whole, latency_of(arriving.result()), lag, thread, backend)

    async def _arrivals(self, seconds: float, *, period_s: float) -> list[float]:
        """Have new jobs come at random; return the time from each call to the start, in milliseconds."""
        samples = []
        until_s = time.perf_counter() + seconds
        while time.perf_counter() < until_s:
            await self._enqueue(latency.TASK, {"sent_ns": time.time_ns()})
            samples.append(await self._starts.next_ms())
            await asyncio.sleep(random.uniform(0.5, 1.5) * period_s)  # noqa: S311 - jitter
        return samples

    async def _probe(self, seconds: float) -> dict[str, Any]:
        job_id = await self._enqueue("bench.probe", {"seconds": seconds})
        ended = "select result from dl_jobs where job_id = $1 and finished_at is not null"
        await asyncio.sleep(seconds)
        async with asyncio.timeout(LONG_S):
            while not (result := await self._fetch(ended, job_id)):
                await asyncio.sleep(0.1)
        found: dict[str, Any] = json.loads(result)
        return found

    async def _enqueue(self, task: str, args: dict[str, object]) -> UUID:
        job_id: UUID = await self._fetch(latency.ENQUEUE, latency.QUEUE, task, json.dumps(args))
        return job_id

    async def _fetch(self, sql: str, *args: object) -> Any:
        async with self._turn:
            return await self._connection.fetchval(sql, *args)

    async def _backend(self) -> int:
        pid = await self._fetch("select pid from pg_stat_activity where application_name = 'dataloader leases'")
        return int(pid)

    def _cpu(self, thread_id: int, server: psutil.Process) -> tuple[float, float, float]:
        """Return the CPU seconds of the process, of its thread for heartbeats, and of the server for that one."""
        thread = next(thread for thread in self.process.threads() if thread.id == thread_id)
        times = server.cpu_times()
        return cpu_seconds(self.process.pid), thread.user_time + thread.system_time, times.user + times.system
