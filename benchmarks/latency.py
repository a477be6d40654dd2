"""How soon after the call a job starts, at rest: each call is alone, sent a moment after the job before it started.

All figures of a round come from one server, one client and one clock, which the job reads in its first line.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp

from benchmarks.peers import Peer
from benchmarks.processes import base_environment, free_port, has_worker, running
from benchmarks.starts import Starts, listening
from dataloader.config import Settings
from dataloader.storage.db import connect

WARM_UP = 50
QUEUE = "starts"
TASK = "bench.start"
WORKERS = [{"queue": QUEUE, "concurrency": 10}]
ENQUEUE = "select dl_enqueue($1, $2, $3)"
_PAUSE_S = (0.01, 0.03)
_READY_TIMEOUT_S = 30.0

Call = Callable[[], Awaitable[None]]
Opened = Callable[[Settings, Starts], AbstractAsyncContextManager[Call]]


@dataclass(frozen=True, slots=True)
class Latency:
    """Time from the call to the start, in milliseconds."""

    p50_ms: float
    p99_ms: float


def latency_of(samples_ms: list[float]) -> Latency:
    """Return median and 99th percentile."""
    cuts = statistics.quantiles(samples_ms, n=100, method="inclusive")
    return Latency(cuts[49], cuts[98])


@dataclass(frozen=True, slots=True)
class Way:
    """A way from a call to a started job.

    Attributes:
        name: What is called, and where the worker is.
        opened: Runs its processes and gives the call.
        peer: Whose it is, None for ours.
    """

    name: str
    opened: Opened
    peer: Peer | None = None


async def measure(settings: Settings, way: Way, *, count: int) -> Latency:
    """Return the latency of so many calls after warm-up."""
    samples: list[float] = []
    async with listening() as starts, way.opened(settings, starts) as call:
        for number in range(WARM_UP + count):
            await call()
            late_ms = await starts.next_ms()
            if number >= WARM_UP:
                samples.append(late_ms)
            await asyncio.sleep(random.uniform(*_PAUSE_S))  # noqa: S311 - jitter
    return latency_of(samples)


def posted(session: aiohttp.ClientSession, url: str, body: Mapping[str, object]) -> Call:
    """Return a call that posts a job whose arguments say when it was sent."""

    async def call() -> None:
        async with session.post(url, json={**body, "args": {"sent_ns": time.time_ns()}}) as response:
            assert response.status == 201, await response.text()

    return call


@asynccontextmanager
async def in_one(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run API and worker in one process."""
    async with _service(settings, starts, None) as call:
        yield call


@asynccontextmanager
async def apart(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run API and worker in processes of their own."""
    async with _service(settings, starts, "api", "worker") as call:
        yield call


@asynccontextmanager
async def by_sql(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run a worker; the call is `dl_enqueue` on a connection of the client."""
    connection = await connect(settings, purpose="bench")
    try:
        async with running("worker", environment(settings, starts)) as pid:
            await until(lambda: connection.fetchval("select exists (select from dl_workers where pid = $1)", pid))

            async def call() -> None:
                await connection.fetchval(ENQUEUE, QUEUE, TASK, json.dumps({"sent_ns": time.time_ns()}))

            yield call
    finally:
        await connection.close()


OURS = (
    Way("HTTP, API and worker in one process", in_one),
    Way("HTTP, API and worker apart", apart),
    Way("without HTTP", by_sql),
)


def environment(settings: Settings, starts: Starts) -> dict[str, str]:
    """Return the environment of a process whose jobs report their starts."""
    own = {"WORKERS_JSON": json.dumps(WORKERS), "AUDIT_LOG_PATH": str(starts.folder)}
    return base_environment(settings) | starts.environment | own


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(_READY_TIMEOUT_S):
        while not await condition():
            await asyncio.sleep(0.05)


@asynccontextmanager
async def _service(settings: Settings, starts: Starts, *roles: str | None) -> AsyncIterator[Call]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api/v1"
    async with AsyncExitStack() as stack:
        for role in roles:
            await stack.enter_async_context(running(role, environment(settings, starts) | {"APP_PORT": str(port)}))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        await until(lambda: has_worker(session, url))
        yield posted(session, f"{url}/jobs/trigger", {"queue": QUEUE, "task": TASK})
