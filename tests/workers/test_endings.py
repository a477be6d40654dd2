"""Many runs that end together: settled beside the next claim, on a connection of their own, and none of them twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import COMMAND_TIMEOUT_S, Connection
from dataloader.workers.control import Control
from dataloader.workers.endings import APART
from dataloader.workers.pipelines.registry import Registry, register
from tests.storage.conftest import Connect, connect_more  # noqa: F401 - a fixture
from tests.workers.harness import Service, enqueue, eventually, finished, running_service

SLOTS = 2 * APART
JOBS = 6 * APART

MakeSettings = Callable[..., Settings]


class Abreast:
    """A pipeline that counts how many of its runs are there at a time, and holds them until told to go on."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.held = False
        self._go = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self) -> AsyncGenerator[None, None]:
        self._loop = asyncio.get_running_loop()
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            if self.held:
                await self._go.wait()
            yield
        finally:
            self.now -= 1

    def let_go(self) -> None:
        """End all runs in one turn of their loop."""
        assert self._loop
        self.held, go, self._go = False, self._go, asyncio.Event()
        self._loop.call_soon_threadsafe(go.set)


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(workers_json=[{"queue": "q", "concurrency": SLOTS}], dl_poll_sec=30)


@pytest.fixture
def abreast() -> Abreast:
    return Abreast()


@pytest.fixture
def registry(abreast: Abreast) -> Registry:
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        async for _ in abreast.run():
            yield

    return registry


@asynccontextmanager
async def together(abreast: Abreast, runs: int = SLOTS) -> AsyncGenerator[None, None]:
    """Hold all runs within the block; they end together behind it."""
    abreast.held = True
    yield
    await eventually(lambda: asyncio.sleep(0, abreast.now == runs))
    abreast.let_go()


def settler(service: Service) -> Control:
    return service.manager._fleet.settler


def all_once(rows: list[Any]) -> bool:
    return {(row["status"], row["attempt"], row["epoch"]) for row in rows} == {("succeeded", 1, 1)}


async def test_a_large_batch_is_settled_while_jobs_are_claimed(
    pg: Connection, settings: Settings, registry: Registry, abreast: Abreast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(settings, registry) as service:
        exchange, claimed, apart = settler(service).complete, asyncio.Event(), 0
        control, claim = service.manager._fleet.control, service.manager._fleet.control.exchange

        async def waiting(*arguments: Any, **more: Any) -> Any:
            nonlocal apart
            apart += 1
            await claimed.wait()
            return await exchange(*arguments, **more)

        async def telling(*arguments: Any, **more: Any) -> Any:
            answer = await claim(*arguments, **more)
            if not abreast.held and answer.rows:
                claimed.set()
            return answer

        monkeypatch.setattr(settler(service), "complete", waiting)
        monkeypatch.setattr(control, "exchange", telling)
        async with together(abreast):
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(JOBS)])
        rows = await finished(pg, jobs, within_s=5)

    assert apart
    assert all_once(rows)
    assert abreast.most == SLOTS


async def test_a_large_batch_whose_answer_is_lost_is_counted_once(
    pg: Connection, settings: Settings, registry: Registry, abreast: Abreast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(settings, registry) as service:
        exchange, lost = settler(service).complete, [2]

        async def deaf(*arguments: Any, **more: Any) -> Any:
            answer = await exchange(*arguments, **more)
            if lost[0]:
                lost[0] -= 1
                raise DatabaseAwayError("the answer was lost")
            return answer

        monkeypatch.setattr(settler(service), "complete", deaf)
        async with together(abreast):
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(JOBS)])
        rows = await finished(pg, jobs)
        await eventually(lambda: asyncio.sleep(0, not len(service.manager.runs)))
        text = service.ctx.metrics.render().decode()

    assert lost == [0]
    assert all_once(rows)
    assert f'dataloader_jobs_settled_total{{queue="q",status="succeeded",task="t"}} {JOBS}.0' in text
    assert 'reason="fenced"} 0' in text or 'reason="fenced"' not in text


async def test_locked_rows_of_a_large_batch_hold_up_nobody(
    *,
    pg: Connection,
    settings: Settings,
    registry: Registry,
    abreast: Abreast,
    connect_more: Connect,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = await connect_more()
    async with running_service(settings, registry) as service:
        exchange, apart = settler(service).complete, 0

        async def counted(*arguments: Any, **more: Any) -> Any:
            nonlocal apart
            apart += 1
            return await exchange(*arguments, **more)

        async with together(abreast):
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(SLOTS)])
            await eventually(lambda: asyncio.sleep(0, abreast.now == SLOTS))
            held = jobs[:APART]
            holding = other.transaction()
            await holding.start()
            await other.execute("select from dl_jobs where job_id = any ($1) for update", held)
        await finished(pg, jobs[APART:])
        monkeypatch.setattr(settler(service), "complete", counted)
        await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(5)]), within_s=5)
        few = apart
        async with together(abreast, APART):
            many = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(APART)])
        await finished(pg, many, within_s=5)
        still = {row["status"] for row in await pg.fetch("select status from dl_jobs where job_id = any ($1)", held)}
        await holding.rollback()
        rows = await finished(pg, jobs)

    assert all_once(rows)
    assert still == {"running"}
    assert (few, apart) == (0, 1)


async def test_the_end_of_a_process_waits_for_a_large_batch(
    pg: Connection, settings: Settings, registry: Registry, abreast: Abreast, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(settings, registry) as service:
        exchange, begun, on = settler(service).complete, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any, **more: Any) -> Any:
            begun.set()
            await on.wait()
            return await exchange(*arguments, **more)

        monkeypatch.setattr(settler(service), "complete", slow)
        async with together(abreast):
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(SLOTS)])
        await begun.wait()
        service.stop.set()
        await eventually(lambda: asyncio.sleep(0, service.manager._fleet.draining.is_set()))
        on.set()
    rows = await pg.fetch("select * from dl_jobs where job_id = any ($1)", jobs)

    assert all_once(rows)
    assert len(rows) == SLOTS


async def test_a_large_batch_that_cannot_be_settled_apart_goes_with_the_exchange(
    pg: Connection, settings: Settings, registry: Registry, abreast: Abreast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the connection for large batches is away, as when the server takes no more; nobody works for nothing."""
    async with running_service(settings, registry) as service:
        worker, most = service.manager._workers["q"], 0

        async def away(*_arguments: Any) -> Any:
            nonlocal most
            worker.wake.set()
            await asyncio.sleep(0.01)  # longer than a claim takes
            most = max(most, worker.active)
            raise DatabaseAwayError("there are too many connections")

        monkeypatch.setattr(settler(service), "complete", away)
        async with together(abreast):
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(JOBS)])
        rows = await finished(pg, jobs)

    assert most
    assert most <= 2 * SLOTS
    assert all_once(rows)


async def test_a_process_that_starts_beside_a_migration_stays(
    *,
    pg: Connection,
    settings: Settings,
    registry: Registry,
    connect_more: Connect,  # noqa: F811
) -> None:
    """What makes ready for large batches may be refused like everything else."""
    migration = await connect_more()
    await pg.execute("do $$begin execute format('alter database %I set lock_timeout = 20', current_database()); end$$")
    await migration.execute("begin; lock table dl_jobs in access exclusive mode")
    async with running_service(settings, registry) as service:
        await eventually(lambda: asyncio.sleep(0, settler(service).generation > 0))
        await eventually(lambda: asyncio.sleep(0, not settler(service)._pinned._lock.locked()))
        await migration.execute("rollback")
        rows = await finished(pg, await enqueue(pg, settings, NewJob("q", "t")))

    assert all_once(rows)


async def test_a_process_ends_in_time_while_all_jobs_are_locked(
    pg: Connection,
    make_settings: MakeSettings,
    registry: Registry,
    connect_more: Connect,  # noqa: F811
) -> None:
    settings = make_settings(workers_json=[{"queue": "q", "concurrency": SLOTS}], dl_shutdown_grace_sec=1)
    migration = await connect_more()
    await migration.execute("begin; lock table dl_jobs in access exclusive mode")
    async with running_service(settings, registry) as service:
        await eventually(lambda: asyncio.sleep(0, settler(service).generation > 0))
        began_s = time.monotonic()
    took_s = time.monotonic() - began_s

    assert took_s < COMMAND_TIMEOUT_S
