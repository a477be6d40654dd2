"""What must be charged, what must not, and what must not be held up by a neighbour."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.domain.retry import LinearBackoff
from dataloader.storage.db import connect
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import Service, enqueue, eventually, finished, job_row, running_service

Steps = AsyncGenerator[Any, None]
FAST = LinearBackoff(base_s=0.01)
CLAIM_WAITS = "select count(*) from pg_locks where not granted and relation = 'dl_job_events'::regclass"


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("in_chunk", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("no such file"),
        ConnectionRefusedError("a source"),
        TimeoutError("a source"),
        KeyboardInterrupt("a pipeline's own"),
    ],
)
async def test_errors_of_a_source_are_charged_and_not_taken_for_an_outage(
    settings: Settings, pg: Any, registry: Registry, error: BaseException, *, in_chunk: bool
) -> None:
    @register("t", queue="q", retry=FAST, max_attempts=2, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
        yield
        if in_chunk:
            async with ctx.transaction():
                raise error
        raise error

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id], within_s=5)
    assert (row["status"], row["attempt"], row["handovers"]) == ("failed", 2, 0)
    assert json.loads(row["error"])["type"] == type(error).__name__


async def test_a_pipeline_that_cancels_itself_is_charged(settings: Settings, pg: Any, registry: Registry) -> None:
    @register("t", queue="q", retry=FAST, max_attempts=2, registry=registry)
    async def pipeline(args: dict[str, object]) -> Steps:
        yield
        stray: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stray.cancel()
        await stray

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id], within_s=5)
    assert (row["status"], row["attempt"], row["handovers"]) == ("failed", 2, 0)


async def test_a_run_cancelled_before_its_first_step_gives_its_slot_back(
    settings: Settings, pg: Any, registry: Registry
) -> None:
    entered, release = threading.Event(), threading.Event()

    @register("block", queue="q", registry=registry)
    async def block(args: dict[str, object]) -> Steps:
        entered.set()
        release.wait(60)
        yield

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> Steps:
        yield

    async with running_service(settings, registry) as service:
        (blocker,) = await enqueue(pg, settings, NewJob("q", "block"))
        await asyncio.to_thread(entered.wait, 10)
        (waiting,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", waiting))
        await pg.fetch("select * from dl_cancel($1)", waiting)
        await asyncio.sleep(settings.dl_cancel_grace_sec + 0.5)  # until the watchdog has cancelled the task
        release.set()
        rows = await finished(pg, [blocker, waiting], within_s=10)
        await eventually(lambda: _idle(service), within_s=5)
    assert [row["status"] for row in rows] == ["succeeded", "canceled"]


async def test_a_poison_job_runs_alone_also_beside_other_queues(
    settings: Settings, pg: Any, registry: Registry
) -> None:
    beside: list[int] = []
    running: set[str] = set()

    def pipeline_of(name: str) -> None:
        @register(name, queue=name, registry=registry)
        async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
            running.add(name)
            beside.append(len(running))
            await asyncio.sleep(0.3)
            running.discard(name)
            yield

    names = ["a", "b", "c", "d", "poison"]
    for name in names:
        pipeline_of(name)
    ids = await enqueue(pg, settings, *[NewJob(name, name) for name in names])
    await pg.execute("update dl_jobs set losses = 1, loss_epoch = 1, epoch = 1")
    async with running_service(settings, registry):
        rows = await finished(pg, ids, within_s=15)
    assert {row["status"] for row in rows} == {"succeeded"}
    assert beside == [1] * len(names)


async def test_a_chunk_may_idle_for_longer_than_a_lease(settings: Settings, pg: Any, registry: Registry) -> None:
    @register("t", queue="q", retry=FAST, max_attempts=1, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
        async with ctx.transaction() as tx:
            await asyncio.sleep(1.5 * settings.dl_default_lease_ttl_sec)
            tx.checkpoint({"done": 1})
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id], within_s=12)
    assert (row["status"], row["attempt"], row["losses"], row["handovers"]) == ("succeeded", 1, 0, 0)


async def test_a_locked_row_does_not_hold_up_its_neighbours(settings: Settings, pg: Any, registry: Registry) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> Steps:
        yield
        await asyncio.sleep(0.5)

    async with second_session(settings) as other, running_service(settings, registry):
        (held,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", held))
        async with other.transaction():
            await other.execute("select from dl_jobs where job_id = $1 for update", held)
            ids = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(12)])
            await finished(pg, ids, within_s=8)
        (row,) = await finished(pg, [held], within_s=8)
    assert (row["status"], row["attempt"], row["losses"]) == ("succeeded", 1, 0)


async def test_what_is_claimed_while_the_drain_begins_is_handed_over_at_its_safe_point(
    make_settings: Any, pg: Any, registry: Registry
) -> None:
    settings: Settings = make_settings(dl_shutdown_grace_sec=20)

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
        while True:
            await asyncio.sleep(0.01)
            yield Checkpoint({"n": 1})

    (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
    async with second_session(settings) as other:
        async with AsyncExitStack() as stack:
            hold = other.transaction()
            await hold.start()
            await other.execute("lock table dl_job_events in exclusive mode")  # the claim waits for it
            service = await stack.enter_async_context(running_service(settings, registry))
            await eventually(lambda: pg.fetchval(CLAIM_WAITS))
            service.stop.set()
            await eventually(lambda: _draining(service))
            await hold.commit()
            started = time.monotonic()
        took = time.monotonic() - started
    row = await job_row(pg, job_id)
    assert (row["status"], row["attempt"], row["handovers"]) == ("queued", 0, 1)
    assert took < 5, "it ran on until the grace was over"


async def _idle(service: Service) -> bool:
    return not len(service.manager.runs)


async def _draining(service: Service) -> bool:
    return bool(service.manager.facts()["draining"])


@asynccontextmanager
async def second_session(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A session of somebody else."""
    connection = await connect(settings, purpose="somebody else")
    assert isinstance(connection, asyncpg.Connection)
    yield connection
    await connection.close()
