"""A backlog: the next claim is sent before the answer to the last one is read, and nothing is lost between them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import Lease, NewJob
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import Connection
from dataloader.storage.repositories.queue import Claim
from dataloader.storage.repositories.rows import Exchanged
from dataloader.workers import base
from dataloader.workers.pipelines.registry import Registry, register
from dataloader.workers.runs import RunTable
from tests.workers.harness import Service, enqueue, eventually, finished, running_service

LIMIT = 4
SLOTS = 20 * LIMIT
JOBS = 12 * LIMIT

MakeSettings = Callable[..., Settings]
Sending = Callable[[], Awaitable[Exchanged]]


@pytest.fixture(autouse=True)
def small_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "CLAIM_LIMIT", LIMIT)


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(
        workers_json=[{"queue": "q", "concurrency": SLOTS}, {"queue": "other", "concurrency": 1}], dl_poll_sec=30
    )


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @register("t", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    return registry


class Line:
    """Stands between the workers and their control connection.

    Attributes:
        under_way: Exchanges of the queue `q` that are neither answered nor given up.
        read_beside: How often an answer was read while another exchange was under way.
        claims: What other queues asked for while a claim was ahead.
        ahead: Answers claims that are ahead.
        queued: Called while a worker holds the turn, before it sends a claim ahead.
    """

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        self.under_way = self.read_beside = 0
        self.claims: list[Claim] = []
        self.ahead: Callable[[Sending], Awaitable[Exchanged]] | None = None
        self.queued: Callable[[], object] = list
        self._exchange = service.manager._fleet.control.exchange
        self._fleet = service.manager._fleet
        self._read = Exchanged.claimed
        monkeypatch.setattr(self._fleet.control, "exchange", self.exchange)
        monkeypatch.setattr(Exchanged, "claimed", lambda answer: self.read(answer))  # noqa: PLW0108 - binds the answer

    async def exchange(self, settlements: Any, claim: Claim | None, **more: Any) -> Exchanged:
        if claim is None or claim.queue != "q":
            self.claims += [claim] if claim and self._fleet.ahead else []
            return await self._exchange(settlements, claim, **more)
        self.under_way += 1
        if not self._fleet.ahead and not claim.idle:
            self.queued()
        try:
            if self._fleet.ahead and self.ahead:
                return await self.ahead(lambda: self._exchange(settlements, claim, **more))
            return await self._exchange(settlements, claim, **more)
        finally:
            self.under_way -= 1

    def read(self, answer: Exchanged) -> Any:
        self.read_beside += self.under_way > 0
        return self._read(answer)


async def fill(pg: Connection, settings: Settings) -> list[Any]:
    """Enqueue a backlog in one transaction, so that the first claim finds all of it."""
    async with pg.transaction():
        return await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(JOBS)])


def all_once(rows: list[Any]) -> bool:
    return {(row["status"], row["attempt"], row["epoch"]) for row in rows} == {("succeeded", 1, 1)}


async def test_the_next_claim_is_under_way_while_an_answer_is_read(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(settings, registry) as service:
        line = Line(service, monkeypatch)
        rows = await finished(pg, await fill(pg, settings))
        await eventually(lambda: asyncio.sleep(0, not len(service.manager.runs)))
        ahead, active = service.manager._fleet.ahead, [worker.active for worker in service.manager._workers.values()]

    assert all_once(rows)
    assert line.read_beside > 2
    assert ahead == 0
    assert active == [0, 0]


async def test_a_claim_ahead_that_fails_loses_nothing(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [2]

    async def failing(send: Sending) -> Exchanged:
        if failures[0]:
            failures[0] -= 1
            raise DatabaseAwayError("the connection was lost")
        return await send()

    async with running_service(settings, registry) as service:
        line = Line(service, monkeypatch)
        line.ahead = failing
        rows = await finished(pg, await fill(pg, settings))

    assert failures == [0]
    assert all_once(rows)


async def test_jobs_that_a_claim_ahead_brings_into_a_drain_are_handed_over(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, on = asyncio.Event(), asyncio.Event()
    brought: list[UUID] = []

    async def late(send: Sending) -> Exchanged:
        sent.set()
        await on.wait()
        answer = await send()
        brought.extend(row["job_id"] for row in answer.rows)
        return answer

    async with running_service(settings, registry) as service:
        line = Line(service, monkeypatch)
        line.ahead = late
        await fill(pg, settings)
        await sent.wait()
        service.stop.set()
        await eventually(lambda: asyncio.sleep(0, service.manager._fleet.draining.is_set()))
        on.set()
    rows = await pg.fetch("select * from dl_jobs where job_id = any ($1)", brought)

    assert len(rows) == LIMIT
    assert {(row["status"], row["attempt"], row["handovers"], row["ready"]) for row in rows} == {("queued", 0, 1, True)}


async def test_a_claim_ahead_that_is_not_read_before_the_grace_ends_is_called_off(
    pg: Connection, make_settings: MakeSettings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(
        workers_json=[{"queue": "q", "concurrency": SLOTS}], dl_poll_sec=30, dl_shutdown_grace_sec=1
    )
    called_off = asyncio.Event()
    turns: list[asyncio.Task[None]] = []
    unanswered: list[asyncio.Future[Exchanged]] = []

    async def never(_: Sending) -> Exchanged:
        try:
            unanswered.append(asyncio.get_running_loop().create_future())
            return await unanswered[-1]
        except asyncio.CancelledError:
            called_off.set()
            raise

    async with running_service(settings, registry) as service:
        line, fleet = Line(service, monkeypatch), service.manager._fleet

        async def take_the_turn() -> None:
            async with fleet.turn:
                await asyncio.get_running_loop().create_future()

        def queued() -> None:
            if not turns:
                turns.append(asyncio.create_task(take_the_turn()))

        line.ahead, line.queued = never, queued
        jobs = await fill(pg, settings)
        await eventually(lambda: asyncio.sleep(0, service.manager._workers["q"]._ahead))
        service.stop.set()
        await asyncio.wait_for(called_off.wait(), 10)
        turns[0].cancel()
    rows = await pg.fetch("select status from dl_jobs where job_id = any ($1)", jobs)

    assert {row["status"] for row in rows} <= {"succeeded", "queued"}


async def test_a_process_does_not_count_as_idle_while_a_claim_is_ahead(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was lost before must not come to run beside what that claim brings."""
    turns: list[asyncio.Task[bool]] = []
    async with running_service(settings, registry) as service:
        line, other = Line(service, monkeypatch), service.manager._workers["other"]

        def queued() -> None:
            monkeypatch.setattr(RunTable, "__len__", lambda _: 0)
            turns.append(asyncio.create_task(other._exchange()))

        line.queued = queued
        rows = await finished(pg, await fill(pg, settings))
        await asyncio.gather(*turns)

    assert line.claims
    assert not any(claim.idle for claim in line.claims)
    assert all_once(rows)


async def test_no_claim_is_ahead_of_the_news_that_a_job_is_to_run_alone(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was lost before and has waited for a lease comes with others, but nobody is claimed to join them."""
    joined: list[bool] = []
    read = Exchanged.claimed
    async with running_service(settings, registry) as service:
        line = Line(service, monkeypatch)

        def seen(answer: Exchanged) -> Any:
            if any(row["losses"] for row in answer.rows):
                joined.append(line.under_way > 0)
            return read(answer)

        monkeypatch.setattr(Exchanged, "claimed", seen)
        async with pg.transaction():
            jobs = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(JOBS)])
            await pg.execute("update dl_jobs set available_at = now() - interval '1 day'")
            await pg.execute("update dl_jobs set losses = 1 where job_id = $1", jobs[6 * LIMIT])
        rows = await finished(pg, jobs)

    assert joined == [False]
    assert {row["status"] for row in rows} == {"succeeded"}


async def test_a_worker_that_failed_does_not_pause_while_a_claim_is_ahead(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody renews the leases of what that claim has brought until its answer is read."""
    pauses: list[float] = []
    async with running_service(settings, registry) as service:
        worker, failures = service.manager._workers["q"], [1]
        written, wait = worker._endings.written, worker.wake.wait

        async def failing(*arguments: Any) -> None:
            if failures[0] and worker._ahead is not None:
                failures[0] -= 1
                raise DatabaseAwayError("what became of a run could not be asked")
            await written(*arguments)

        async def waiting(timeout_s: float) -> bool:
            if worker._ahead is not None:
                pauses.append(timeout_s)
            return await wait(timeout_s)

        monkeypatch.setattr(worker._endings, "written", failing)
        monkeypatch.setattr(worker.wake, "wait", waiting)
        rows = await finished(pg, await fill(pg, settings))

    assert pauses == [0]
    assert all_once(rows)


async def test_what_failed_apart_does_not_unmake_an_exchange(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs are settled: they are not put back to be settled again."""
    sent: list[Lease] = []
    failures = [2]
    async with running_service(settings, registry) as service:
        worker, control = service.manager._workers["q"], service.manager._fleet.control
        exchange = control.exchange

        async def failing() -> None:
            raise DatabaseAwayError("the connection for large batches was lost")

        async def exchanged(settlements: Any, claim: Claim | None, *, succeeded: Any = ()) -> Exchanged:
            answer = await exchange(settlements, claim, succeeded=succeeded)
            sent.extend(succeeded)
            if failures[0] and succeeded and claim and not claim.idle and worker._endings._apart is None:
                failures[0] -= 1
                worker._endings._apart = asyncio.create_task(failing())
                await asyncio.wait([worker._endings._apart])
            return answer

        monkeypatch.setattr(control, "exchange", exchanged)
        rows = await finished(pg, await fill(pg, settings))

    assert failures == [0]
    assert len(set(sent)) == len(sent)
    assert all_once(rows)
