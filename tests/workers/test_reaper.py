"""When the reaper may take leases: never before live workers had the chance to renew."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest

from dataloader.context import AppContext
from dataloader.domain.jobs import Lease
from dataloader.logger import Loggers
from dataloader.storage.repositories.rows import Released
from dataloader.workers.control import Control
from dataloader.workers.reaper import Reaper
from tests.workers.harness import eventually

BEAT_S = 0.1
LEASE_S = 4 * BEAT_S


class Database:
    """Counts what is asked of it; it may be away or frozen for a while, which the reaper sees as a late answer."""

    def __init__(self) -> None:
        self.reaps = 0
        self.late_s = 0.0

    async def server_time(self) -> datetime:
        """Answer, sooner or later."""
        until_s = time.monotonic() + self.late_s
        await eventually(lambda: _passed(until_s))
        return datetime.now(UTC)

    async def reconcile(self, held: Iterable[Lease], *, age_s: float) -> list[Released]:
        """Know of no stray claims."""
        return []

    async def reap(self, asked_at: datetime, *, grace_s: float) -> list[Released]:
        """Count."""
        self.reaps += 1
        return []

    async def terminate_strays(self, asked_at: datetime) -> int:
        """Know of no stray chunks."""
        return 0


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def reaper(database: Database) -> Reaper:
    return reaper_of(database, period_s=BEAT_S)


async def test_after_its_start_it_waits_for_two_heartbeats(database: Database, reaper: Reaper) -> None:
    began_s = time.monotonic()

    await reaps(database, reaper)

    assert time.monotonic() - began_s >= 2 * BEAT_S


async def test_while_it_can_look_it_reaps_every_time(database: Database, reaper: Reaper) -> None:
    await reaps(database, reaper)

    await reaper.step()

    assert database.reaps == 2


async def test_a_lease_shorter_than_its_period_is_still_looked_at_in_time(database: Database) -> None:
    """Or every look would seem to come after an outage, and wait for renewals for ever."""
    reaper = reaper_of(database, period_s=60)
    stop = asyncio.Event()

    async with asyncio.TaskGroup() as group:
        group.create_task(reaper.run(stop))
        await eventually(lambda: _reaped(database, 3), within_s=5)
        stop.set()


async def test_after_an_outage_it_waits_for_two_heartbeats_again(database: Database, reaper: Reaper) -> None:
    await reaps(database, reaper)
    database.late_s = LEASE_S

    await reaper.step()
    assert database.reaps == 1, "nobody could renew meanwhile"

    database.late_s, back_s = 0.0, time.monotonic()
    await reaps(database, reaper)
    assert time.monotonic() - back_s >= 1.9 * BEAT_S


async def reaps(database: Database, reaper: Reaper) -> None:
    """Let it look as often as it takes until it reaps."""
    before = database.reaps

    async def reaped() -> bool:
        await reaper.step()
        return database.reaps > before

    await eventually(reaped)


def reaper_of(database: Database, *, period_s: float) -> Reaper:
    settings = SimpleNamespace(dl_reaper_period_sec=period_s, dl_heartbeat_sec=BEAT_S, dl_default_lease_ttl_sec=LEASE_S)
    ctx = SimpleNamespace(settings=settings, loggers=Loggers.silent())
    return Reaper(cast("AppContext", ctx), cast("Control", database), held=list)


async def _reaped(database: Database, times: int) -> bool:
    return database.reaps >= times


async def _passed(until_s: float) -> bool:
    return time.monotonic() >= until_s
