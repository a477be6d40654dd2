"""What an exchange does beside its two halves: solo runs, lost answers, outcomes that cannot be written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from itertools import pairwise
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import Lease, NewJob
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import Connection
from dataloader.workers.pipelines.registry import Registry, register
from tests.storage.conftest import Connect, connect_more  # noqa: F401 - a fixture
from tests.workers.harness import enqueue, eventually, finished, running_service

MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """Polls are far apart: what happens before one was not found by one."""
    return make_settings(workers_json=[{"queue": "q", "concurrency": 4}], dl_poll_sec=30)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    return registry


async def test_jobs_that_were_lost_before_run_one_by_one_without_a_pause(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    starts: list[float] = []

    @register("timed", queue="q", registry=registry)
    async def timed(args: dict[str, object]) -> AsyncGenerator[None, None]:
        starts.append(time.monotonic())
        yield

    async with running_service(settings, registry):
        async with pg.transaction():
            ids = await enqueue(pg, settings, *[NewJob("q", "timed") for _ in range(6)])
            await pg.execute("update dl_jobs set losses = 1 where queue = 'q'")
        await finished(pg, ids)

    assert max(after - before for before, after in pairwise(starts)) < 2


async def test_a_claim_whose_outcomes_cannot_be_looked_up_is_counted_once(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_service(settings, registry) as service:
        control = service.manager._fleet.control
        exchange, fates, lost = control.exchange, control.fates, [3, 3]

        async def forgetful(*arguments: Any, **more: Any) -> Any:
            answer = await exchange(*arguments, **more)
            if answer.settled and lost[0]:
                lost[0] -= 1
                return answer._replace(settled=[])
            return answer

        async def away(*arguments: Any) -> Any:
            if lost[1]:
                lost[1] -= 1
                raise DatabaseAwayError("away")
            return await fates(*arguments)

        monkeypatch.setattr(control, "exchange", forgetful)
        monkeypatch.setattr(control, "fates", away)
        rows = await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(40)]))

        async def let_go() -> bool:
            return not len(service.manager.runs)

        await eventually(let_go)
        text = service.ctx.metrics.render().decode()

    assert lost == [0, 0]
    assert {(row["status"], row["attempt"], row["epoch"]) for row in rows} == {("succeeded", 1, 1)}
    assert 'dataloader_jobs_claimed_total{queue="q",task="t"} 40.0' in text
    assert 'dataloader_jobs_settled_total{queue="q",status="succeeded",task="t"} 40.0' in text


async def test_an_outcome_that_cannot_be_written_on_a_locked_row_holds_up_nobody(
    pg: Connection,
    settings: Settings,
    registry: Registry,
    connect_more: Connect,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    @register("bad", queue="q", registry=registry)
    async def bad(args: dict[str, object], ctx: Any) -> AsyncGenerator[None, None]:
        loops.append(asyncio.get_running_loop())
        await go.wait()
        ctx.result = "unwritable"
        yield

    monkeypatch.setattr("dataloader.storage.repositories.queue.dump_result", lambda _: '"\\u0000"')
    other = await connect_more()
    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "bad"))
        await eventually(lambda: asyncio.sleep(0, bool(loops)))
        holding = other.transaction()
        await holding.start()
        await other.execute("select from dl_jobs where job_id = $1 for update", job_id)
        loops[0].call_soon_threadsafe(go.set)
        await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(5)]), within_s=5)
        await holding.rollback()
        (row,) = await finished(pg, [job_id])

    assert row["status"] == "failed"
    assert "UnwritableOutcome" in row["error"]


async def test_both_epochs_of_a_job_have_their_own_fate(pg: Connection, settings: Settings, registry: Registry) -> None:
    async with running_service(settings, registry) as service:
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        await finished(pg, [job_id])
        old, new = Lease(job_id, 0), Lease(job_id, 1)
        control = service.manager._fleet.control

        assert await control.fates([old, new]) == await control.fates([new, old]) == {new: "succeeded"}


async def test_a_number_too_long_for_python_is_its_own_jobs_trouble(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    async with running_service(settings, registry):
        ids = [
            await pg.fetchval("select dl_enqueue('q', 't', jsonb_build_object('n', 1e4300::numeric))"),
            *await enqueue(pg, settings, NewJob("q", "t")),
        ]
        rows = await finished(pg, ids)

    assert [row["status"] for row in rows] == ["succeeded", "succeeded"]
