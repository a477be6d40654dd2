"""A run outside of any worker, for tests of the parts that a run passes through."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg

from dataloader.config import Settings
from dataloader.connectors.files import open_files
from dataloader.connectors.http import HttpClient
from dataloader.domain.jobs import NewJob
from dataloader.domain.outcomes import SettleKind, Settlement
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.presence import PresenceRepository
from dataloader.storage.repositories.queue import Claim, QueueRepository
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.chunks import Resources
from dataloader.workers.pipelines.registry import Registry, register
from dataloader.workers.runs import Run
from tests.workers.harness import enqueue


def queue_of(settings: Settings) -> QueueRepository:
    """Return the queue, with leases that nobody has to renew meanwhile."""
    return QueueRepository(settings.pg_schema, lease_s=60)


async def claimed(pg: Connection, settings: Settings) -> Run:
    """Return a run that has just been claimed."""
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    await enqueue(pg, settings, NewJob("q", "t"))
    (job,) = await queue_of(settings).claim(pg, Claim("q", ["t"], 1, uuid4(), idle=True), actor="test")
    return Run(job, registry.get("t"), claim_sent_s=time.monotonic())


async def taken_away(pg: Connection, settings: Settings, run: Run) -> None:
    """Give a run's job back behind its back."""
    (released,) = await queue_of(settings).settle(pg, [Settlement(run.lease, SettleKind.HANDED_OVER)], actor="test")
    assert released.lease == run.lease


@asynccontextmanager
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """Open what runs share."""

    async def opener(_dsn: object, **options: Any) -> Connection:
        return await connect(settings, purpose="pipelines", command_timeout_s=None, **options)

    pool: asyncpg.Pool[asyncpg.Record] = await asyncpg.create_pool(connect=opener, min_size=0, max_size=2)  # type: ignore[call-overload]
    async with HttpClient() as http:
        try:
            presence = PresenceRepository(settings.pg_schema)
            yield Resources(settings, pool, http, open_files(settings), queue_of(settings), Metrics(), presence)
        finally:
            pool.terminate()
