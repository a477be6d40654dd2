"""What must be charged, what must not, and what must not be held up by a neighbour."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dataloader.config import QueueWorkers, Settings
from dataloader.domain.jobs import NewJob
from dataloader.domain.retry import LinearBackoff
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, events, finished, job_row, running_service

FAST = LinearBackoff(base_s=0.01)


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("error", [FileNotFoundError("no such file"), ConnectionRefusedError("a source"), TimeoutError("a source")])
@pytest.mark.parametrize("in_chunk", [False, True])
async def test_errors_of_a_source_are_charged_and_not_taken_for_an_outage(
    settings: Settings, pg: Any, registry: Registry, error: Exception, in_chunk: bool
) -> None:
    @register("t", queue="q", retry=FAST, max_attempts=2, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
        if in_chunk:
            async with ctx.transaction():
                raise error
        raise error
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id], within_s=5)
    assert (row["status"], row["attempt"], row["handovers"]) == ("failed", 2, 0)
    assert json.loads(row["error"])["type"] == type(error).__name__


async def test_a_pipeline_that_cancels_itself_is_charged(settings: Settings, pg: Any, registry: Registry) -> None:
    @register("t", queue="q", retry=FAST, max_attempts=2, registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[object, None]:
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
    async def block(args: dict[str, object]) -> AsyncGenerator[object, None]:
        entered.set()
        release.wait(60)
        yield

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[object, None]:
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


async def test_a_poison_job_runs_alone_also_beside_other_queues(settings: Settings, pg: Any, registry: Registry) -> None:
    beside: list[int] = []
    running: set[str] = set()

    def pipeline_of(name: str) -> None:
        @register(name, queue=name, registry=registry)
        async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
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
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
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
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[object, None]:
        yield
        await asyncio.sleep(0.5)

    import asyncpg

    other = await asyncpg.connect(host=settings.pg_host, user=settings.pg_user, database=settings.pg_database)
    async with running_service(settings, registry):
        (held,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", held))
        async with other.transaction():
            await other.execute("select from dl_jobs where job_id = $1 for update", held)
            started = time.monotonic()
            ids = await enqueue(pg, settings, *[NewJob("q", "t") for _ in range(12)])
            await finished(pg, ids, within_s=8)
            took = time.monotonic() - started
        (row,) = await finished(pg, [held], within_s=8)
    await other.close()
    print(f"12 jobs beside a locked one took {took:.2f} s")
    assert (row["status"], row["attempt"], row["losses"]) == ("succeeded", 1, 0)


async def test_what_is_claimed_while_the_drain_begins_is_handed_over_at_its_safe_point(
    make_settings: Any, pg: Any, registry: Registry
) -> None:
    settings: Settings = make_settings(dl_shutdown_grace_sec=20)

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[object, None]:
        while True:
            await asyncio.sleep(0.01)
            yield Checkpoint({"n": 1})

    import asyncpg

    other = await asyncpg.connect(host=settings.pg_host, user=settings.pg_user, database=settings.pg_database)
    (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
    hold = other.transaction()
    await hold.start()
    await other.execute("lock table dl_job_events in exclusive mode")  # the claim waits for it
    async with running_service(settings, registry) as service:
        await eventually(lambda: pg.fetchval("select count(*) from pg_locks where not granted and relation = 'dl_job_events'::regclass"))
        service.stop.set()
        await asyncio.sleep(0.1)
        await hold.commit()
        started = time.monotonic()
    took = time.monotonic() - started
    await other.close()
    row = await job_row(pg, job_id)
    assert (row["status"], row["attempt"], row["handovers"]) == ("queued", 0, 1)
    assert took < 5, "it ran on until the grace was over"


async def test_a_dead_pipelines_thread_ends_the_process_loudly(settings: Settings, pg: Any, registry: Registry) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[object, None]:
        yield
        raise KeyboardInterrupt

    async def serve() -> None:
        async with running_service(settings, registry):
            await enqueue(pg, settings, NewJob("q", "t"))
            await asyncio.Event().wait()

    with pytest.raises(BaseException) as raised:  # noqa: PT011
        async with asyncio.timeout(10):
            await serve()
    assert not isinstance(raised.value, TimeoutError)


async def _idle(service: Any) -> bool:
    return not len(service.manager.runs)


__all__ = ["events"]
