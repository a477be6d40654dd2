"""Runs a real worker role against the test's database, and waits for what is to happen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import asyncpg

from dataloader.base import supervise
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.domain.jobs import Keys, NewJob
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.storage.repositories.promotion import PromotionRepository
from dataloader.workers.manager import WorkerManager
from dataloader.workers.pipelines.registry import Registry

PATIENCE_S = 30.0
_TURN_S = 1.0
T = TypeVar("T")


async def eventually(
    condition: Callable[[], Awaitable[T | None]], *, within_s: float = PATIENCE_S, every_s: float = 0.01
) -> T:
    """Return the first true answer of `condition`; fail when there is none in time.

    A machine that stood still is not the service's fault: of one turn no more than `_TURN_S` counts.
    """
    left_s = within_s
    while left_s > 0:
        began_s = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                if answer := await condition():
                    return answer
        await asyncio.sleep(every_s)
        left_s -= min(time.monotonic() - began_s, max(every_s, _TURN_S))
    raise AssertionError(f"did not happen within {within_s:g} s")


@dataclass
class Service:
    """A worker role in this process."""

    ctx: AppContext
    manager: WorkerManager
    stop: asyncio.Event


@asynccontextmanager
async def running_service(settings: Settings, registry: Registry) -> AsyncIterator[Service]:
    """Run listener, notifier and workers until the block ends, then drain."""
    async with open_context(settings) as ctx:
        stop = asyncio.Event()
        manager = WorkerManager(ctx, registry)
        service = Service(ctx, manager, stop)
        async with asyncio.TaskGroup() as group:
            group.create_task(supervise([ctx.listener, ctx.notifier, manager], stop))
            try:
                await eventually(lambda: _started(ctx, settings))
                yield service
            finally:
                stop.set()


async def _started(ctx: AppContext, settings: Settings) -> bool:
    connection = await connect(settings, purpose="test")
    try:
        return bool(
            await connection.fetchval(
                f'select 1 from "{settings.pg_schema}".dl_workers where worker_id = $1', ctx.process_id
            )
        )
    finally:
        await connection.close()


async def enqueue(pg: Connection, settings: Settings, *jobs: NewJob) -> list[UUID]:
    """Enqueue jobs as the service does: insert, then promote what has keys."""
    intake = IntakeRepository(settings.pg_schema)
    answers = await intake.enqueue(pg, jobs, actor="test", notify=True)
    keys = Keys()
    for job in jobs:
        keys |= Keys.of(job.lock_key, job.partition_key)
    if keys:
        await PromotionRepository(settings.pg_schema).promote(pg, keys)
    return [answer.job_id for answer in answers]


async def job_row(pg: Connection, job_id: UUID) -> asyncpg.Record:
    """Return a job's row."""
    row = await pg.fetchrow("select * from dl_jobs where job_id = $1", job_id)
    assert row is not None
    return row


async def finished(pg: Connection, job_ids: Sequence[UUID], *, within_s: float = PATIENCE_S) -> list[asyncpg.Record]:
    """Wait until all jobs have ended; return their rows in the order of the ids."""

    async def all_done() -> bool:
        return not await pg.fetchval(
            "select count(*) from dl_jobs where job_id = any($1) and finished_at is null", job_ids
        )

    await eventually(all_done, within_s=within_s)
    rows = {row["job_id"]: row for row in await pg.fetch("select * from dl_jobs where job_id = any($1)", job_ids)}
    return [rows[job_id] for job_id in job_ids]


async def events(pg: Connection, job_id: UUID) -> list[str]:
    """Return the kinds of a job's events in order."""
    rows = await pg.fetch("select kind from dl_job_events where job_id = $1 order by event_id", job_id)
    return [row["kind"] for row in rows]
