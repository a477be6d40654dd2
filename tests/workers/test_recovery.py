"""What is taken back from whom, in real sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import Lease, NewJob
from dataloader.storage.db import connect
from dataloader.storage.queries import run_name
from dataloader.storage.repositories.queue import Claim, QueueRepository
from dataloader.storage.repositories.recovery import RecoveryRepository
from tests.workers.harness import enqueue, eventually, job_row

LEASE_S = 0.2
BACKEND_LIVES = "select count(*) from pg_stat_activity where pid = $1"


@pytest.fixture
async def lease(settings: Settings, pg: Any) -> Lease:
    """A job that somebody runs and will not renew."""
    await enqueue(pg, settings, NewJob("q", "t"))
    queue = QueueRepository(settings.pg_schema, lease_s=LEASE_S)
    (job,) = await queue.claim(pg, Claim("q", ["t"], 1, uuid4(), idle=True), actor="test")
    return job.lease


@pytest.fixture
def recovery(settings: Settings) -> RecoveryRepository:
    return RecoveryRepository(settings.pg_schema)


async def test_a_reap_that_lay_in_a_frozen_server_takes_no_lease_that_was_good_when_it_was_sent(
    pg: Any, lease: Lease, recovery: RecoveryRepository
) -> None:
    asked_at = await recovery.server_time(pg)
    await _until_expired(pg, lease)
    assert await recovery.reap(pg, asked_at, grace_s=0, actor="test") == []
    (released,) = await recovery.reap(pg, await recovery.server_time(pg), grace_s=0, actor="test")
    assert released.lease == lease


async def test_a_chunk_whose_lease_has_expired_is_ended_although_it_holds_the_row(
    settings: Settings, pg: Any, lease: Lease, recovery: RecoveryRepository
) -> None:
    async with _chunk_of(settings, lease) as zombie:
        await zombie.execute("select from dl_jobs where job_id = $1 for no key update", lease.job_id)
        await _until_expired(pg, lease)
        asked_at = await recovery.server_time(pg)
        assert await recovery.reap(pg, asked_at, grace_s=0, actor="test") == []
        assert await recovery.terminate_strays(pg, asked_at) == 1
        await eventually(lambda: _is_gone(pg, zombie))
    (released,) = await recovery.reap(pg, asked_at, grace_s=0, actor="test")
    assert released.lease == lease


@pytest.mark.parametrize("whose", ["a live run", "a younger chunk", "another service's run", "a name that is none"])
async def test_no_other_backend_is_ended(
    settings: Settings, pg: Any, recovery: RecoveryRepository, whose: str, lease: Lease
) -> None:
    if whose == "a live run":
        await pg.execute("update dl_jobs set lease_expires_at = clock_timestamp() + interval '1 hour'")
    else:
        await _until_expired(pg, lease)
    asked_at = await recovery.server_time(pg)
    named = Lease(uuid4(), 1) if whose == "another service's run" else lease
    name = "dl/not-a-job/1" if whose == "a name that is none" else None
    async with _chunk_of(settings, named, name=name) as other:
        if whose != "a younger chunk":
            asked_at = await recovery.server_time(pg)
        assert await recovery.terminate_strays(pg, asked_at) == 0
        assert await other.fetchval("select 1") == 1


async def test_claims_nobody_heard_of_are_given_back_and_those_held_are_not(
    settings: Settings, pg: Any, recovery: RecoveryRepository
) -> None:
    worker_id, (known, lost) = uuid4(), await enqueue(pg, settings, NewJob("q", "t"), NewJob("q", "t"))
    queue = QueueRepository(settings.pg_schema, lease_s=60)
    await queue.claim(pg, Claim("q", ["t"], 2, worker_id, idle=True), actor="test")
    held = [Lease(known, 1)]
    assert await recovery.reconcile(pg, worker_id=worker_id, held=held, age_s=60) == []
    (returned,) = await recovery.reconcile(pg, worker_id=worker_id, held=held, age_s=0)
    row = await job_row(pg, lost)
    assert returned.lease == Lease(lost, 1)
    assert (row["status"], row["attempt"], row["losses"], row["handovers"]) == ("queued", 0, 0, 1)
    assert (await job_row(pg, known))["status"] == "running"


async def _until_expired(pg: Any, lease: Lease) -> None:
    await eventually(lambda: _expired(pg, lease.job_id))


async def _expired(pg: Any, job_id: UUID) -> bool:
    return bool(await pg.fetchval("select lease_expires_at < clock_timestamp() from dl_jobs where job_id = $1", job_id))


async def _is_gone(pg: Any, connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    return not await pg.fetchval(BACKEND_LIVES, connection.get_server_pid())


@asynccontextmanager
async def _chunk_of(
    settings: Settings, lease: Lease, *, name: str | None = None
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A transaction that looks like a run's open chunk."""
    name = name or run_name(lease.job_id, lease.epoch, schema=settings.pg_schema)
    connection = await connect(settings, purpose="somebody else")
    assert isinstance(connection, asyncpg.Connection)
    await connection.execute(f"begin; set local application_name = '{name}'")
    yield connection
    connection.terminate()
