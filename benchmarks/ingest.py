"""How many triggers a second the API takes, and how soon after the call a job starts."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from benchmarks.processes import base_environment, has_worker, running
from benchmarks.raw import CLAIM, INSERT
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

CLIENTS = 32
_START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Time from the call to the start, in milliseconds."""

    p50_ms: float
    p99_ms: float


def latency_of(samples_ms: list[float]) -> Latency:
    """Return median and 99th percentile."""
    cuts = statistics.quantiles(samples_ms, n=100, method="inclusive")
    return Latency(cuts[49], cuts[98])


@asynccontextmanager
async def service(settings: Settings, port: int, workers: str) -> AsyncIterator[str]:
    """Run API and a worker in processes of their own; yield the API's address once both are there."""
    environment = base_environment(settings) | {"APP_PORT": str(port), "WORKERS_JSON": workers}
    url = f"http://127.0.0.1:{port}/api/v1"
    async with running("api", environment), running("worker", environment), aiohttp.ClientSession() as session:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not await has_worker(session, url):
                await asyncio.sleep(0.1)
        yield url


async def _flood(call: Callable[[int], Awaitable[object]], count: int) -> float:
    """Call from many clients at once; return calls per second."""
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await call(number)

    started_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client())
    return count / (time.perf_counter() - started_s)


async def http_rate(url: str, count: int) -> float:
    """Return single triggers per second over HTTP; the jobs go to a queue that nobody works on."""
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def trigger(number: int) -> None:
            body = {"queue": "bench", "task": "bench.noop", "args": {"n": number}}
            async with session.post(f"{url}/jobs/trigger", json=body) as response:
                assert response.status == 201, await response.text()

        return await _flood(trigger, count)


async def raw_rate(settings: Settings, count: int) -> float:
    """Return single-row inserts per second by asyncpg on as many connections as there are clients."""
    connections = [await connect(settings, purpose="bench raw") for _ in range(CLIENTS)]
    free: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for connection in connections:
        free.put_nowait(connection)

    async def insert(number: int) -> None:
        connection = await free.get()
        await connection.fetchval(INSERT, "bench", "bench.noop", json.dumps({"n": number}))
        free.put_nowait(connection)

    try:
        return await _flood(insert, count)
    finally:
        for connection in connections:
            await connection.close()


async def start_latency(settings: Settings, url: str, count: int) -> Latency:
    """Trigger jobs one after the other, at rest; measure until the pipeline's first line."""
    samples: list[float] = []
    connection = await connect(settings, purpose="bench")
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(count):
                body = {"queue": "latency", "task": "bench.latency", "args": {"sent_ns": time.time_ns()}}
                async with session.post(f"{url}/jobs/trigger", json=body) as response:
                    job_id = (await response.json())["job_id"]
                while not (result := await connection.fetchval("select result from dl_jobs where job_id = $1", job_id)):
                    await asyncio.sleep(0.002)
                samples.append(json.loads(result)["ns"] / 1e6)
    finally:
        await connection.close()
    return latency_of(samples)


async def raw_start_latency(settings: Settings, count: int) -> Latency:
    """Insert and notify on one connection, claim on another when the notification comes."""
    sender, claimer = [await connect(settings, purpose="bench raw") for _ in range(2)]
    woken = asyncio.Event()
    await claimer.add_listener("bench_raw", lambda *_: woken.set())
    samples: list[float] = []
    try:
        await sender.execute("truncate raw_jobs, raw_events")
        for number in range(count):
            sent_s = time.perf_counter()
            async with sender.transaction():
                await sender.fetchval(INSERT, "bench", "bench.noop", json.dumps({"n": number}))
                await sender.execute("notify bench_raw")
            await woken.wait()
            woken.clear()
            assert await claimer.fetch(CLAIM, "bench", 1)
            samples.append((time.perf_counter() - sent_s) * 1e3)
    finally:
        await sender.close()
        await claimer.close()
    return latency_of(samples)
