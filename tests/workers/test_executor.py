"""Runs that share a task share nothing else."""

from __future__ import annotations

import asyncio
import decimal
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, finished, running_service

_mine: ContextVar[int] = ContextVar("mine", default=0)


MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    """A queue with room for many."""
    return make_settings(workers_json=[{"queue": "q", "concurrency": 100}])


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_a_context_variable_that_a_run_leaves_set_is_not_seen_by_the_next(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    seen = []

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        seen.append((_mine.get(), decimal.getcontext().prec))
        _mine.set(1)
        decimal.getcontext().prec = 5
        yield

    async with running_service(settings, registry):
        await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(50)]))

    assert set(seen) == {(0, 28)}


async def test_runs_behind_one_that_waits_are_not_held_up(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    release = asyncio.Event()
    loops = []

    @register("wait", queue="q", registry=registry)
    async def wait(args: dict[str, object]) -> AsyncGenerator[None, None]:
        loops.append(asyncio.get_running_loop())
        await release.wait()
        yield

    @register("quick", queue="q", registry=registry)
    async def quick(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    async with running_service(settings, registry):
        jobs = [NewJob("q", "wait" if n % 10 == 0 else "quick") for n in range(100)]
        ids = await enqueue(pg, settings, *jobs)
        await finished(pg, [job_id for job_id, job in zip(ids, jobs, strict=True) if job.task == "quick"])
        assert await pg.fetchval("select count(*) from dl_jobs where status = 'running'") == 10
        loops[0].call_soon_threadsafe(release.set)
        await finished(pg, ids)


async def test_a_cancel_ends_its_run_and_none_that_shared_its_task(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        if args["wait"]:
            await asyncio.sleep(600)
        yield

    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, *[NewJob("q", "t", {"wait": n % 5 == 0}) for n in range(30)])
        waiting = [job_id for n, job_id in enumerate(ids) if n % 5 == 0]
        await finished(pg, [job_id for job_id in ids if job_id not in waiting])
        for job_id in waiting:
            await pg.execute("select dl_cancel($1, 'test')", job_id)
        await pg.execute("select pg_notify('dl_public', 'cancel:*')")
        rows = await finished(pg, ids)
        more = await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t", {"wait": False}) for _ in range(50)]))

    assert [row["status"] for row in rows] == ["canceled" if n % 5 == 0 else "succeeded" for n in range(30)]
    assert {row["status"] for row in more} == {"succeeded"}


@pytest.mark.parametrize("how", ["later", "taken back"])
async def test_a_run_that_cancels_its_own_task_charges_no_other(
    pg: Connection, settings: Settings, registry: Registry, how: str
) -> None:
    @register("stray", queue="q", registry=registry)
    async def stray(args: dict[str, object]) -> AsyncGenerator[None, None]:
        task = asyncio.current_task()
        assert task is not None
        if how == "later":
            asyncio.get_running_loop().call_later(0.1, task.cancel)
        else:
            task.cancel()
            task.uncancel()
        yield

    @register("next", queue="q", registry=registry)
    async def following(args: dict[str, object]) -> AsyncGenerator[None, None]:
        await asyncio.sleep(0.3)
        yield

    async with running_service(settings, registry):
        async with pg.transaction():
            ids = await enqueue(pg, settings, NewJob("q", "stray"), NewJob("q", "next"))
        _, row = await finished(pg, ids)

    assert (row["status"], row["attempt"]) == ("succeeded", 1)


async def test_a_hundred_jobs_in_batches_of_fifty_take_six_statements(
    pg: Connection, make_settings: MakeSettings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(workers_json=[{"queue": "q", "concurrency": 50}])
    statements: list[str] = []

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    async with running_service(settings, registry) as service:
        control = service.manager._fleet.control
        whole = control.exchange

        async def counted(*arguments: Any, **more: Any) -> Any:
            statements.append("exchange")
            return await whole(*arguments, **more)

        async def idle() -> bool:
            return bool(await pg.fetchval("select count(*) = 0 from dl_jobs where status = 'running'"))

        await eventually(idle)
        monkeypatch.setattr(control, "exchange", counted)
        await finished(pg, await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(100)]))

    assert 3 <= len(statements) + 1 <= 6
