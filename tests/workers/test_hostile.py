"""Pipelines that do what nobody should: each still ends, keeps what was promised, and takes no slot with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from functools import partial

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import ClaimedJob, Lease, NewJob
from dataloader.domain.retry import LinearBackoff
from dataloader.exceptions import PermanentError, RetryLater
from dataloader.storage.db import Connection
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.registry import Registry, register
from dataloader.workers.runner import OUTAGES_MAX, Outages
from dataloader.workers.runs import Run
from tests.workers.harness import enqueue, eventually, finished, job_row, running_service

FAST = LinearBackoff(base_s=0.01)


@pytest.fixture
def registry() -> Registry:
    return Registry()


class _Mute(Exception):  # noqa: N818 - it is no error of ours
    def __str__(self) -> str:
        raise ValueError("no words")


class _BrokenPolicy:
    def delay_s(self, attempt: int, *, draw: float) -> float:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "named"),
    [(_Mute, "_Mute"), (lambda: RetryLater(float("nan")), "ValueError"), (lambda: RetryLater("x"), "ValueError")],  # type: ignore[arg-type]
)
async def test_whatever_is_raised_the_job_ends_and_its_slot_is_free(
    settings: Settings, pg: Connection, registry: Registry, error: Callable[[], BaseException], named: str
) -> None:
    @register("t", queue="q", max_attempts=1, registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        raise error()

    async with running_service(settings, registry) as service:
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
        await eventually(partial(_empty, service.manager.runs))
    assert row["status"] == "failed"
    assert json.loads(row["error"])["type"] == named


async def test_a_retry_policy_that_raises_does_not_keep_the_job(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", max_attempts=1, retry=_BrokenPolicy(), registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield
        raise RuntimeError("first")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], json.loads(row["error"])["type"]) == ("failed", "RuntimeError")


async def test_a_timedelta_postpones(settings: Settings, pg: Connection, registry: Registry) -> None:
    runs: list[int] = []

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        runs.append(ctx.attempt)
        yield
        if len(runs) == 1:
            raise RetryLater(timedelta(milliseconds=1))

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], runs) == ("succeeded", [1, 1])


async def test_a_checkpoint_comes_back_as_it_was_saved(settings: Settings, pg: Connection, registry: Registry) -> None:
    deep: object = "bottom"
    for _ in range(40):
        deep = [deep]
    saved = {"cursor": "x" * 30_000 + "END", "deep": deep, "ключ": "значение 🙂"}
    seen: list[object] = []

    @register("t", queue="q", retry=FAST, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        seen.append(ctx.checkpoint)
        async with ctx.transaction() as tx:
            tx.checkpoint(saved)
        ctx.result = {"long": "y" * 30_000}
        yield
        if len(seen) == 1:
            raise RuntimeError("again")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert seen == [None, saved]
    assert json.loads(row["result"]) == {"long": "y" * 30_000}


@pytest.mark.parametrize("state", [{"a": "nul \x00"}, {"a": "\ud800"}, {"a": float("nan")}, {"a": object()}])
async def test_a_checkpoint_that_cannot_be_kept_is_refused_for_good(
    settings: Settings, pg: Connection, registry: Registry, state: dict[str, object]
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            tx.checkpoint(state)
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"]) == ("failed", 1)
    assert "checkpoint" in json.loads(row["error"])["message"]


async def test_state_is_read_in_the_open_chunk_and_needs_no_second_connection(
    make_settings: Callable[..., Settings], pg: Connection, registry: Registry
) -> None:
    settings = make_settings(pg_pool_size=1)
    seen: list[object] = []

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            await tx.set_state("mark", 7)
            seen.append(await ctx.state.get("mark"))
        seen.append(await ctx.state.get("mark"))
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], seen) == ("succeeded", [7, 7])


async def test_a_chunk_that_is_left_open_fails_the_job_and_frees_its_connection(
    make_settings: Callable[..., Settings], pg: Connection, registry: Registry
) -> None:
    settings = make_settings(pg_pool_size=1)
    kept: list[object] = []

    @register("open", queue="q", registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        chunk = ctx.transaction()
        kept.append(chunk)
        tx = await chunk.__aenter__()
        await tx.execute("create table never (n int)")
        if args.get("never"):
            yield

    @register("next", queue="q", registry=registry)
    async def following(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
        async with ctx.transaction() as tx:
            await tx.execute("select 1")
        yield

    async with running_service(settings, registry):
        (first,) = await enqueue(pg, settings, NewJob("q", "open"))
        (row,) = await finished(pg, [first])
        (second,) = await enqueue(pg, settings, NewJob("q", "next"))
        (next_row,) = await finished(pg, [second])
    assert row["status"] == "failed"
    assert "inside ctx.transaction()" in json.loads(row["error"])["message"]
    assert next_row["status"] == "succeeded"
    assert await pg.fetchval("select to_regclass('never')") is None


async def test_a_cleanup_that_raises_at_shutdown_charges_nothing(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        try:
            while True:
                await asyncio.sleep(0.01)
                yield
        finally:
            raise RuntimeError("cleanup broke")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t", max_attempts=1))
        await eventually(lambda: pg.fetchval("select true from dl_jobs where status = 'running'"))
    row = await job_row(pg, job_id)
    assert (row["status"], row["attempt"], row["handovers"]) == ("queued", 0, 1)


async def test_a_permanent_error_in_a_group_is_permanent(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    async def part() -> None:
        raise PermanentError("no use")

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(part())
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])
    assert (row["status"], row["attempt"], json.loads(row["error"])["message"]) == ("failed", 1, "no use")


async def test_a_statement_that_breaks_its_own_connection_is_at_last_a_failure(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
    job = ClaimedJob(Lease(job_id, 1), "q", "t", {})
    outages = Outages()
    runs = [Run(job, registry.get("t"), claim_sent_s=0.0) for _ in range(OUTAGES_MAX + 2)]

    delays = [outages.delay_s(run) for run in runs[:-1]]
    runs[-1].advanced = True

    assert delays[:4] == [1.0, 2.0, 4.0, 8.0]
    assert delays[-1] is None
    assert outages.delay_s(runs[-1]) == 1.0


async def test_arguments_nested_deeper_than_can_be_read_fail_their_job_and_no_other(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    deep = f'{{"a": {"[" * 2_000}{"]" * 2_000}}}'
    poison = await pg.fetchval("select dl_enqueue('q', 't', $1::text::jsonb)", deep)
    async with running_service(settings, registry):
        (row,) = await finished(pg, [poison])
    assert (row["status"], row["attempt"], row["losses"]) == ("failed", 1, 0)
    assert "nested too deep" in json.loads(row["error"])["message"]


async def _empty(runs: object) -> bool:
    return not len(runs)  # type: ignore[arg-type]
