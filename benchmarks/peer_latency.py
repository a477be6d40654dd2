"""From the call to the start by the peers: over a FastAPI application of theirs, and by their own enqueueing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp

from benchmarks import peers
from benchmarks.latency import OURS, Call, Way, posted
from benchmarks.processes import base_environment, free_port
from benchmarks.starts import Starts
from dataloader.config import Settings

_PGQUEUER = "benchmarks.pgqueuer_latency"
_PROCRASTINATE = "benchmarks.procrastinate_latency"


@asynccontextmanager
async def pgqueuer_in_one(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run application and worker in one process."""
    async with _application(settings, starts, "both") as call:
        yield call


@asynccontextmanager
async def pgqueuer_apart(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run application and worker in processes of their own."""
    async with _application(settings, starts, "worker", "api") as call:
        yield call


@asynccontextmanager
async def pgqueuer_direct(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run a worker, and a process that enqueues whenever it is told to."""
    async with _caller(settings, starts, peers.PGQUEUER, _PGQUEUER) as call:
        yield call


@asynccontextmanager
async def procrastinate_direct(settings: Settings, starts: Starts) -> AsyncIterator[Call]:
    """Run a worker, and a process that defers whenever it is told to."""
    async with _caller(settings, starts, peers.PROCRASTINATE, _PROCRASTINATE) as call:
        yield call


_IN_ONE, _APART, _DIRECT = OURS
CONTESTS = (
    (_IN_ONE, Way("PgQueuer 1.6 in FastAPI", pgqueuer_in_one, peers.PGQUEUER)),
    (_APART, Way("PgQueuer 1.6 in FastAPI", pgqueuer_apart, peers.PGQUEUER)),
    (_DIRECT, Way("PgQueuer 1.6", pgqueuer_direct, peers.PGQUEUER)),
    (_DIRECT, Way("procrastinate 3", procrastinate_direct, peers.PROCRASTINATE)),
)
"""Ways that begin and end alike, ours first."""


@asynccontextmanager
async def _application(settings: Settings, starts: Starts, *roles: str) -> AsyncIterator[Call]:
    port = free_port()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(peers.database(settings, peers.PGQUEUER))
        for role in roles:
            environment = base_environment(settings) | starts.environment
            await stack.enter_async_context(
                peers.process(settings, environment, peers.PGQUEUER, (_PGQUEUER, role, str(port)))
            )
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield posted(session, f"http://127.0.0.1:{port}/jobs", {"task": "start"})


@asynccontextmanager
async def _caller(settings: Settings, starts: Starts, peer: peers.Peer, module: str) -> AsyncIterator[Call]:
    environment = base_environment(settings) | starts.environment
    async with (
        peers.database(settings, peer),
        peers.process(settings, environment, peer, (module, "worker")),
        peers.process(settings, environment, peer, (module, "caller")) as caller,
    ):

        async def call() -> None:
            peers.tell(caller, "call")
            await asyncio.sleep(0)

        yield call
