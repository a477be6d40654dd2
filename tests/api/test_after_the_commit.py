"""What is committed is told: nothing that goes wrong afterwards turns the answer into an error."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.api.database import BUDGET_S, Database
from dataloader.api.v1.known_tasks import KnownTasks
from dataloader.api.v1.service import JobService
from dataloader.api.v1.wakeups import WakeUps
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import Connection as Pg
from tests.api.scene import Scene, make_registry


def _gone() -> None:
    raise DatabaseAwayError("gone")


class WritesOnly(Database):
    """A database that goes away between a commit and the next read."""

    @asynccontextmanager
    async def reading(self, budget_s: float = BUDGET_S) -> AsyncIterator[AsyncConnection]:
        _gone()
        async with super().reading(budget_s) as connection:
            yield connection


@pytest.fixture
async def breaking(pg: Pg) -> AsyncIterator[None]:
    """Keys cannot be promoted in this test's database."""
    await pg.execute("alter function dl_promote(text[], text[], interval) rename to dl_promote_kept")
    await pg.execute(
        "create function dl_promote(text[], text[]) returns table (queue text, offered integer) language plpgsql as "
        "$$ begin raise exception 'internal trouble' using errcode = 'XX000'; end $$"
    )
    yield
    await pg.execute("drop function dl_promote(text[], text[])")
    await pg.execute("alter function dl_promote_kept(text[], text[], interval) rename to dl_promote")


@pytest.mark.usefixtures("breaking")
async def test_a_promotion_that_fails_is_left_to_the_sweep(scene: Scene) -> None:
    job_id = await scene.trigger(lock_key="l")

    canceled = await scene.post(f"/jobs/{job_id}/cancel")
    retried = await scene.post(f"/jobs/{job_id}/retry")
    bulk = await scene.post("/jobs/trigger/bulk", {"jobs": [{"queue": "q", "task": "any.echo", "lock_key": "m"}]})

    assert (canceled.status_code, retried.status_code, bulk.status_code) == (200, 200, 201)


async def test_the_status_after_a_cancel_and_a_retry_is_part_of_their_transaction(scene: Scene) -> None:
    job_id = await scene.trigger()
    ctx, services = scene.ctx, scene.app.state.services
    database = WritesOnly(ctx.engine, logger=ctx.loggers.app, metrics=ctx.metrics)
    tasks = KnownTasks(make_registry(), database=database, catalogue=services.catalogue, logger=ctx.loggers.app)
    jobs = JobService(
        ctx, database=database, desk=services.desk, tasks=tasks, waiter=services.waiter, wakeups=WakeUps(ctx, database)
    )
    scene.app.state.services = dataclasses.replace(services, jobs=jobs)

    canceled = await scene.post(f"/jobs/{job_id}/cancel")
    retried = await scene.post(f"/jobs/{job_id}/retry")

    assert (canceled.status_code, canceled.json()["status"]) == (200, "canceled")
    assert (retried.status_code, retried.json()["status"]) == (200, "queued")
