"""What the keeper of leases tells a run: that its lease is gone, or that nobody could say so for too long."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dataloader.config import Settings
from dataloader.context import open_context
from dataloader.storage.db import Connection
from dataloader.storage.repositories.presence import Presence
from dataloader.workers.leases import LeaseKeeper
from dataloader.workers.runs import Run, RunTable, StopReason
from tests.workers.harness import eventually
from tests.workers.single import claimed, taken_away

LEASE_S = 0.8


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Short leases: a test waits for one to pass."""
    return make_settings(dl_default_lease_ttl_sec=LEASE_S, dl_heartbeat_sec=LEASE_S / 8)


@pytest.fixture
async def run(pg: Connection, settings: Settings) -> Run:
    """A run that has just been claimed."""
    return await claimed(pg, settings)


async def test_a_run_whose_lease_holds_is_left_alone_and_renewed(settings: Settings, run: Run) -> None:
    claimed_s = run.renewed_s

    async with kept(settings, run):
        await eventually(lambda: answered(lambda: run.renewed_s > claimed_s + LEASE_S))

    assert run.stop is None


async def test_a_run_whose_lease_is_gone_is_stopped(pg: Connection, settings: Settings, run: Run) -> None:
    await taken_away(pg, settings, run)

    async with kept(settings, run):
        await eventually(lambda: answered(lambda: run.stop is not None))

    assert run.stop is StopReason.LEASE_LOST


async def test_a_run_that_cannot_reach_the_database_for_a_whole_lease_is_stopped_without_being_told(
    settings: Settings, run: Run, tmp_path: Path
) -> None:
    claimed_s = run.renewed_s
    away = settings.model_copy(update={"pg_host": str(tmp_path), "dl_db_dsn": None})

    async with kept(away, run):
        await eventually(lambda: answered(lambda: run.stop is not None))

    assert run.stop is StopReason.CUT_OFF
    assert time.monotonic() - claimed_s >= LEASE_S


async def test_a_row_that_stays_locked_is_no_renewal(pg: Connection, settings: Settings, run: Run) -> None:
    async with pg.transaction():
        await pg.execute("select from dl_jobs where job_id = $1 for no key update", run.lease.job_id)
        async with kept(settings, run):
            await eventually(lambda: answered(lambda: run.stop is not None))

    assert run.stop is StopReason.CUT_OFF


@asynccontextmanager
async def kept(settings: Settings, run: Run) -> AsyncIterator[None]:
    """Keep the lease of a run until the end of the block."""
    async with open_context(settings) as ctx:
        runs = RunTable()
        runs.add(run)
        presence = Presence(
            worker_id=ctx.process_id, host="h", pid=1, version="v", queues={"q": 1}, tasks=["t"], takes={"q": ["t"]}
        )
        keeper = LeaseKeeper(ctx, runs, presence)
        keeper.open()
        try:
            yield
            keeper.check()
        finally:
            keeper.close()


async def answered(question: Callable[[], bool]) -> bool:
    """Return the answer to a question that needs no waiting."""
    return question()
