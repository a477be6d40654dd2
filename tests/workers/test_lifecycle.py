"""From claim to end, through the real worker role."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from functools import partial
from uuid import UUID

import pytest

from dataloader.config import QueueWorkers, Settings
from dataloader.domain.jobs import NewJob
from dataloader.domain.retry import LinearBackoff
from dataloader.exceptions import PermanentError, RetryLater
from dataloader.storage.db import Connection
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, events, eventually, finished, job_row, running_service

FAST = LinearBackoff(base_s=0.01)
IN_CHUNK = """
select count(*) from pg_stat_activity where application_name like 'dl/%' and datname = current_database()
"""


@pytest.fixture
def registry() -> Registry:
    return Registry()


async def test_a_job_runs_to_its_end_and_the_events_tell_it(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            await tx.execute("create table out (n int)")
            await tx.copy_rows("out", [(1,), (2,)], columns=["n"])
            tx.checkpoint({"at": 1}, done=1, total=2)
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"], row["epoch"]) == ("succeeded", 1, 1)
    assert json.loads(row["checkpoint"]) == {"at": 1}
    assert json.loads(row["progress"])["done"] == 1
    assert await pg.fetchval("select count(*) from out") == 2
    assert await events(pg, job_id) == ["created", "claimed", "checkpoint", "succeeded"]


async def test_the_short_form_without_context_runs(settings: Settings, pg: Connection, registry: Registry) -> None:
    seen: list[dict[str, object]] = []

    @register("t", registry=registry)
    async def pipeline(args: dict) -> AsyncGenerator[None, None]:  # type: ignore[type-arg]
        seen.append(args)
        yield

    settings = settings.model_copy(update={"workers_json": (QueueWorkers(queue="any"),)})
    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("any", "t", args={"a": 1}))
        (row,) = await finished(pg, [job_id])
    assert row["status"] == "succeeded"
    assert seen == [{"a": 1}]


async def test_a_retry_goes_on_from_the_checkpoint(settings: Settings, pg: Connection, registry: Registry) -> None:
    seen: list[object] = []

    @register("t", queue="q", retry=FAST, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
        seen.append(ctx.checkpoint)
        yield Checkpoint({"step": ctx.attempt}, done=ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError("not yet")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"], row["error"]) == ("succeeded", 3, None)
    assert seen == [None, {"step": 1}, {"step": 2}]


async def test_attempts_end_and_a_permanent_error_ends_at_once(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("flaky", queue="q", retry=FAST, max_attempts=2, registry=registry)
    async def flaky(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        raise RuntimeError("again")

    @register("permanent", queue="q", registry=registry)
    async def permanent(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        raise PermanentError("no use")

    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", "flaky"), NewJob("q", "permanent"))
        first, second = await finished(pg, ids)
    assert (first["status"], first["attempt"], json.loads(first["error"])["message"]) == ("failed", 2, "again")
    assert (second["status"], second["attempt"], json.loads(second["error"])["type"]) == ("failed", 1, "PermanentError")


async def test_retry_later_charges_nothing(settings: Settings, pg: Connection, registry: Registry) -> None:
    runs: list[int] = []

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        runs.append(ctx.attempt)
        yield
        if len(runs) < 3:
            raise RetryLater(0.01, "not published yet")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t", max_attempts=1))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"], runs) == ("succeeded", 1, [1, 1, 1])


async def test_a_yield_inside_a_transaction_is_an_error_and_rolls_back(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    await pg.execute("create table out (n int)")

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            await tx.execute("insert into out values (1)")
            yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert row["status"] == "failed"
    assert "yielded inside" in json.loads(row["error"])["message"]
    assert await pg.fetchval("select count(*) from out") == 0


async def test_a_blocked_loop_keeps_its_lease_and_succeeds_at_first(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        time.sleep(3 * settings.dl_default_lease_ttl_sec)  # noqa: ASYNC251 - what is tested
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"], row["losses"], row["epoch"]) == ("succeeded", 1, 0, 1)


async def test_a_running_job_is_canceled_at_its_next_yield(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[object, None]:
        while True:
            await asyncio.sleep(0.01)
            yield {"done": 1}

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: _is(pg, job_id, "running"))
        started = time.monotonic()
        await pg.fetch("select * from dl_cancel($1)", job_id)
        (row,) = await finished(pg, [job_id])
        took = time.monotonic() - started
    assert row["status"] == "canceled"
    assert took < 1.0
    assert await events(pg, job_id) == ["created", "claimed", "cancel_requested", "canceled"]


@pytest.mark.parametrize("asked", [True, False])
async def test_a_notification_that_speaks_of_an_earlier_run_cancels_nothing(
    make_settings: Callable[..., Settings], pg: Connection, registry: Registry, asked: bool
) -> None:
    settings = make_settings(dl_heartbeat_sec=30, dl_default_lease_ttl_sec=120)
    goes_on = asyncio.Event()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        while not goes_on.is_set():
            await asyncio.sleep(0.01)
            yield

    async with running_service(settings, registry) as service:
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: _is(pg, job_id, "running"))
        if asked:
            await pg.execute("update dl_jobs set cancel_requested = true where job_id = $1", job_id)
        beaten_at = (await job_row(pg, job_id))["heartbeat_at"]
        service.ctx.listener.dispatch(f"cancel:{job_id}")
        await eventually(lambda: _beaten_since(pg, job_id, beaten_at), within_s=1)
        if not asked:
            goes_on.set()
        (row,) = await finished(pg, [job_id], within_s=2)
    assert row["status"] == ("canceled" if asked else "succeeded")


async def test_a_pipeline_that_never_yields_is_cancelled_after_the_grace(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("wait", queue="q", registry=registry)
    async def wait(args: dict[str, object]) -> AsyncGenerator[None, None]:
        await asyncio.sleep(600)
        yield

    @register("query", queue="q", registry=registry)
    async def query(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            await tx.execute("select pg_sleep(600)")
        yield

    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", "wait"), NewJob("q", "query"))
        for job_id in ids:
            await eventually(partial(_is, pg, job_id, "running"))
        await eventually(lambda: pg.fetchval(IN_CHUNK))
        started = time.monotonic()
        for job_id in ids:
            await pg.fetch("select * from dl_cancel($1)", job_id)
        rows = await finished(pg, ids)
        took = time.monotonic() - started
        await eventually(lambda: _nothing_runs(pg))
    assert [row["status"] for row in rows] == ["canceled", "canceled"]
    assert took < 2 * settings.dl_cancel_grace_sec + 1


async def test_a_pipeline_that_cannot_be_stopped_ends_fenced(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    release = threading.Event()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        release.wait(60)
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: _is(pg, job_id, "running"))
        started = time.monotonic()
        await pg.fetch("select * from dl_cancel($1)", job_id)
        (row,) = await finished(pg, [job_id])
        took = time.monotonic() - started
        release.set()
    assert row["status"] == "canceled"
    bound_s = 2 * settings.dl_cancel_grace_sec + settings.dl_default_lease_ttl_sec + settings.dl_reaper_period_sec
    print(f"canceled after {took:.1f} s, bound {bound_s + settings.dl_heartbeat_sec:.1f} s")  # noqa: T201 - the bound is published
    assert took < bound_s + settings.dl_heartbeat_sec


async def test_shutdown_hands_over_uncharged(settings: Settings, pg: Connection, registry: Registry) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
        while True:
            await asyncio.sleep(0.01)
            yield Checkpoint({"n": 1})

    @register("stubborn", queue="q", registry=registry)
    async def stubborn(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        await asyncio.sleep(600)
        yield

    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", "t"), NewJob("q", "stubborn"))
        for job_id in ids:
            await eventually(partial(_is, pg, job_id, "running"))
        started = time.monotonic()
    took = time.monotonic() - started
    rows = [await job_row(pg, job_id) for job_id in ids]
    assert [(row["status"], row["attempt"], row["losses"], row["handovers"], row["ready"]) for row in rows] == [
        ("queued", 0, 0, 1, True),
        ("queued", 0, 0, 1, True),
    ]
    assert took < settings.dl_shutdown_grace_sec
    assert await pg.fetchval("select count(*) from dl_workers") == 0


async def _is(pg: Connection, job_id: object, status: str) -> bool:
    return bool(await pg.fetchval("select status = $2 from dl_jobs where job_id = $1", job_id, status))


async def _nothing_runs(pg: Connection) -> bool:
    return not await pg.fetchval(IN_CHUNK)


async def _beaten_since(pg: Connection, job_id: UUID, at: datetime) -> bool:
    return bool((await job_row(pg, job_id))["heartbeat_at"] > at)
