"""When the reaper may take leases: never before live workers had the chance to renew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import structlog
from structlog.stdlib import BoundLogger

from dataloader.context import AppContext
from dataloader.domain.jobs import JobStatus, Lease
from dataloader.storage.repositories.rows import Released
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.control import Control
from dataloader.workers.reaper import NAMED, Reaper
from tests.workers.harness import eventually

BEAT_S = 0.1
LEASE_S = 4 * BEAT_S


class Database:
    """Counts what is asked of it; it may be away or frozen for a while, which the reaper sees as a late answer."""

    def __init__(self) -> None:
        self.reaps = 0
        self.late_s = 0.0
        self.expired: list[Released] = []

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
        return self.expired

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


async def test_after_the_death_of_a_busy_worker_it_names_some_jobs_and_says_how_many_wait_again(
    database: Database,
) -> None:
    lines: list[dict[str, Any]] = []
    metrics = Metrics()
    reaper = reaper_of(database, period_s=BEAT_S, lines=lines, metrics=metrics)
    database.expired = [expired(JobStatus.QUEUED) for _ in range(2 * NAMED)] + [expired(JobStatus.LOST)]

    await reaps(database, reaper)

    named = [line["status"] for line in lines if line["event"] == "lease expired"]
    assert named == ["queued"] * NAMED + ["lost"], "what somebody must look at is named"
    (rest,) = [line for line in lines if line["event"] == "leases expired"]
    assert (rest["count"], rest["queues"]) == (2 * NAMED, {"q": 2 * NAMED})
    assert f'dataloader_leases_lost_total{{reason="expired"}} {2 * NAMED + 1}' in metrics.render().decode()


async def reaps(database: Database, reaper: Reaper) -> None:
    """Let it look as often as it takes until it reaps."""
    before = database.reaps

    async def reaped() -> bool:
        await reaper.step()
        return database.reaps > before

    await eventually(reaped)


def expired(status: JobStatus) -> Released:
    return Released(Lease(uuid4(), 1), status, 1, "q", None, None, status is JobStatus.QUEUED)


def reaper_of(
    database: Database, *, period_s: float, lines: list[dict[str, Any]] | None = None, metrics: Metrics | None = None
) -> Reaper:
    def keep(_: object, __: str, entry: Any) -> Any:
        if lines is not None:
            lines.append(dict(entry))
        raise structlog.DropEvent

    settings = SimpleNamespace(dl_reaper_period_sec=period_s, dl_heartbeat_sec=BEAT_S, dl_default_lease_ttl_sec=LEASE_S)
    logger = BoundLogger(logging.getLogger("test reaper"), processors=[keep], context={})
    ctx = SimpleNamespace(settings=settings, loggers=SimpleNamespace(app=logger), metrics=metrics)
    return Reaper(cast("AppContext", ctx), cast("Control", database), held=list)


async def _reaped(database: Database, times: int) -> bool:
    return database.reaps >= times


async def _passed(until_s: float) -> bool:
    return time.monotonic() >= until_s
