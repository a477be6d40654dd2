"""The mark from which a queue's claims begin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection
from dataloader.storage.repositories.queue import BEFORE_ALL
from dataloader.storage.repositories.rows import Position, Reached
from dataloader.workers.low_water import LowWater
from dataloader.workers.pipelines.registry import Registry, register
from tests.storage.conftest import Connect, connect_more  # noqa: F401 - a fixture
from tests.workers.harness import enqueue, finished, running_service

NOW_S = 1_000.0
HERE = Position(100, datetime(2026, 1, 1, tzinfo=UTC), 7)
THERE = Position(100, datetime(2026, 1, 1, tzinfo=UTC), 8)


def test_every_claim_begins_at_the_start_while_that_is_cheap() -> None:
    low_water = LowWater()
    low_water.reached(BEFORE_ALL, Reached(HERE, 0.0005), NOW_S)
    assert low_water.after(NOW_S) == BEFORE_ALL
    assert low_water.pause_s(NOW_S) is None


def test_after_a_long_walk_claims_go_on_from_the_mark_for_ten_times_as_long() -> None:
    low_water = LowWater()
    low_water.reached(BEFORE_ALL, Reached(HERE, 0.1), NOW_S)
    assert low_water.after(NOW_S + 0.99) == HERE
    assert low_water.pause_s(NOW_S + 0.25) == pytest.approx(0.75)
    assert low_water.after(NOW_S + 1.01) == BEFORE_ALL


def test_a_claim_from_the_mark_moves_it_and_does_not_put_off_the_next_walk() -> None:
    low_water = LowWater()
    low_water.reached(BEFORE_ALL, Reached(HERE, 0.1), NOW_S)
    low_water.reached(HERE, Reached(THERE, 0.001), NOW_S + 0.5)
    assert low_water.after(NOW_S + 0.9) == THERE
    assert low_water.after(NOW_S + 1.01) == BEFORE_ALL


def test_a_claim_that_took_nothing_leaves_the_mark() -> None:
    low_water = LowWater()
    low_water.reached(BEFORE_ALL, Reached(HERE, 0.1), NOW_S)
    low_water.reached(BEFORE_ALL, Reached(None, 0.2), NOW_S + 1)
    assert low_water.after(NOW_S + 2) == HERE


def test_there_is_no_mark_before_the_first_job() -> None:
    low_water = LowWater()
    low_water.reached(BEFORE_ALL, Reached(None, 0.2), NOW_S)
    assert low_water.pause_s(NOW_S) is None


async def test_an_urgent_job_is_started_although_claims_begin_behind_it(
    pg: Connection,
    make_settings: Callable[..., Settings],
    connect_more: Connect,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Polls are far apart: the next walk from the start does not wait for one."""
    monkeypatch.setattr("dataloader.workers.low_water.CHEAP_S", 0)
    monkeypatch.setattr("dataloader.workers.low_water.WALK_SHARE", 0.01)
    settings = make_settings(workers_json=[{"queue": "q", "concurrency": 4}], dl_poll_sec=60)
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        await asyncio.sleep(0.001)
        yield

    holder = await connect_more()
    async with holder.transaction(isolation="repeatable_read"), running_service(settings, registry):
        await holder.execute("select from dl_jobs")
        await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(500)]))
        began_s = time.monotonic()
        await finished(pg, await enqueue(pg, settings, NewJob("q", "t", priority=1)), within_s=10)

    assert time.monotonic() - began_s < 10
