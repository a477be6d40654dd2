"""What a run may leave behind: no rows after its lease is gone, no charge for an outage, no secret in its error."""

from __future__ import annotations

import gc
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import LeaseLostError
from dataloader.storage.db import Connection
from dataloader.workers.chunks import Resources, open_chunk
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.registry import Registry, register
from dataloader.workers.runs import StopReason
from tests.workers.harness import enqueue, events, eventually, finished, job_row, running_service
from tests.workers.single import claimed, resources, taken_away

Steps = AsyncGenerator[Any, None]
SECRET = "hunter2-hunter2"
LINES = 2_000_000
HELD = """
create table target (n int);
create function hold() returns trigger language plpgsql as
    $$ begin perform pg_advisory_xact_lock_shared(7); return null; end $$;
create trigger hold before insert on target execute function hold();
"""


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.mark.parametrize("when", ["before its rows", "after its rows"])
async def test_a_chunk_of_a_run_that_lost_its_lease_leaves_no_rows(
    settings: Settings, pg: Connection, when: str
) -> None:
    await pg.execute("create table target (n int)")
    run = await claimed(pg, settings)

    async def write(shared: Resources) -> None:
        async with open_chunk(run, shared) as tx:
            if when == "before its rows":
                await taken_away(pg, settings, run)
            await tx.copy_rows("target", [(1,)])
            tx.checkpoint({"at": 1})
            if when == "after its rows":
                await taken_away(pg, settings, run)

    async with resources(settings) as shared:
        with pytest.raises(LeaseLostError):
            await write(shared)

    assert await pg.fetchval("select count(*) from target") == 0
    assert (await job_row(pg, run.lease.job_id))["checkpoint"] is None
    assert run.stop is StopReason.LEASE_LOST


async def test_a_chunk_waits_for_the_rows_of_others_whatever_the_role_sets_for_locks(
    settings: Settings, pg: Connection
) -> None:
    name = await pg.fetchval("select current_database()")
    await pg.execute(f"alter database \"{name}\" set lock_timeout = '1s'")
    run = await claimed(pg, settings)
    async with resources(settings) as shared, open_chunk(run, shared) as tx:
        assert await tx.connection.fetchval("show lock_timeout") == "0"
        tx.checkpoint({"at": 1})


async def test_a_row_that_a_constraint_refuses_at_the_commit_fails_the_job_and_is_no_outage(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    await pg.execute("create table target (n int unique deferrable initially deferred)")

    @register("t", queue="q", max_attempts=1, registry=registry)
    async def late(args: dict[str, object], ctx: JobContext) -> Steps:
        """Write two rows of one key, which only the commit refuses."""
        async with ctx.transaction() as tx:
            await tx.copy_rows("target", [(1,), (1,)])
        yield

    async with running_service(settings, registry):
        (job,) = await finished(pg, await enqueue(pg, settings, NewJob("q", "t")))

    assert job["status"] == "failed"
    assert "duplicate key" in json.loads(job["error"])["message"]
    assert await pg.fetchval("select count(*) from target") == 0


async def test_a_chunk_of_a_run_that_holds_its_lease_is_committed_with_its_checkpoint(
    settings: Settings, pg: Connection
) -> None:
    await pg.execute("create table target (n int)")
    run = await claimed(pg, settings)

    async with resources(settings) as shared, open_chunk(run, shared) as tx:
        await tx.copy_rows("target", [(1,)])
        tx.checkpoint({"at": 1})
        assert await pg.fetchval("select count(*) from target") == 0

    assert await pg.fetchval("select count(*) from target") == 1
    assert json.loads((await job_row(pg, run.lease.job_id))["checkpoint"]) == {"at": 1}
    assert run.stop is None


async def test_a_run_whose_connection_is_ended_is_handed_over_uncharged(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    runs: list[int] = []

    @register("t", queue="q", max_attempts=1, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
        runs.append(ctx.attempt)
        async with ctx.transaction() as tx:
            if len(runs) == 1:
                await tx.execute("select pg_terminate_backend(pg_backend_pid())")
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])

    assert (row["status"], row["attempt"], row["losses"], row["handovers"]) == ("succeeded", 1, 0, 1)
    assert runs == [1, 1]
    assert "handed_over" in await events(pg, job_id)


async def test_a_copy_whose_connection_is_ended_while_it_waits_is_tried_again_without_complaints(
    settings: Settings, pg: Connection, registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    """The server does not read, so that nothing more can be sent; then its process ends."""
    await pg.execute(HELD)
    await pg.execute("select pg_advisory_lock(7)")

    @register("t", queue="q", max_attempts=1, registry=registry)
    async def pipeline(args: dict[str, object], ctx: JobContext) -> Steps:
        async with ctx.transaction() as tx:
            await tx.connection.copy_to_table("target", source=_lines())
        yield

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        await eventually(lambda: pg.fetchval("select pg_terminate_backend(pid) from pg_locks where not granted"))
        await pg.execute("select pg_advisory_unlock(7)")
        (row,) = await finished(pg, [job_id])
        gc.collect()

    assert (row["status"], row["handovers"]) == ("succeeded", 1)
    assert await pg.fetchval("select count(*) from target") == 2 * LINES
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


async def _lines() -> AsyncIterator[bytes]:
    for _ in range(2):
        yield b"1\n" * LINES


async def test_a_secret_in_what_a_pipeline_raises_is_not_stored(
    settings: Settings, pg: Connection, registry: Registry
) -> None:
    @register("t", queue="q", max_attempts=1, registry=registry)
    async def pipeline(args: dict[str, object]) -> Steps:
        yield
        raise RuntimeError(f"cannot reach postgresql://reader:{SECRET}@source/db")

    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", "t"))
        (row,) = await finished(pg, [job_id])

    error = json.loads(row["error"])
    told = await pg.fetch("select data::text from dl_job_events where job_id = $1", job_id)
    assert "source/db" in error["message"]
    assert "RuntimeError" in error["traceback"]
    assert SECRET not in row["error"] + "".join(found["data"] for found in told)
