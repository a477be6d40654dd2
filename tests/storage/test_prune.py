"""Retention: old jobs and their events go in small batches, keys remember how their job ended."""

from __future__ import annotations

from uuid import UUID

import pytest

from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from dataloader.storage.queries import load_queries
from tests.storage.scene import INTAKE, RECOVERY, SCHEMA, answers, enqueue, job, publish, running, settle


async def finished(pg: Connection, *, days_ago: float, **fields: object) -> UUID:
    """Return a job that ended some days ago."""
    lease = await running(pg, **fields)
    await settle(pg, lease, SettleKind.FAILED)
    await age(pg, lease.job_id, days_ago)
    return lease.job_id


async def age(pg: Connection, job_id: UUID, days: float) -> None:
    """Make a job and its key look older than they are."""
    await pg.execute(
        "update dl_jobs set finished_at = now() - $2::float8 * interval '1 day' where job_id = $1", job_id, days
    )
    await pg.execute(
        "update dl_idempotency set created_at = now() - $2::float8 * interval '1 day' where job_id = $1", job_id, days
    )


async def left(pg: Connection) -> set[UUID]:
    return {row["job_id"] for row in await pg.fetch("select job_id from dl_jobs")}


async def test_jobs_that_ended_long_ago_go_with_their_events_and_chunks(pg: Connection) -> None:
    old, young = await finished(pg, days_ago=31), await finished(pg, days_ago=29)
    chunk = (
        "insert into dl_chunks (job_id, epoch, attempt, rows_in, rows_out, rejected, ms) values ($1, 1, 1, 1, 1, 0, 1)"
    )
    await pg.executemany(chunk, [(old,), (young,)])
    (queued,) = await enqueue(pg, job())
    await pg.execute("update dl_jobs set created_at = now() - interval '1 year'")

    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 1

    assert await left(pg) == {young, queued}
    assert await pg.fetchval("select count(*) from dl_job_events where job_id = $1", old) == 0
    assert [row["job_id"] for row in await pg.fetch("select job_id from dl_chunks")] == [young]
    assert await pg.fetchval("select count(*) from dl_job_events where job_id = $1", young) == 3


@pytest.mark.parametrize(("retention_days", "removed"), [(0.5, 0), (0.1, 1), (0.26, 0), (0.24, 1), (36_500.0, 0)])
async def test_retention_counts_in_parts_of_days_too(pg: Connection, retention_days: float, removed: int) -> None:
    await finished(pg, days_ago=0.25)

    assert await RECOVERY.prune_jobs(pg, retention_days=retention_days) == removed


async def test_a_batch_takes_the_oldest_and_no_more_than_it_may(pg: Connection) -> None:
    ids = [await finished(pg, days_ago=40 - n) for n in range(5)]
    sql = load_queries(SCHEMA).prune_jobs

    assert [await pg.fetchval(sql, 30.0, 2) for _ in range(2)] == [2, 2]
    assert await left(pg) == {ids[4]}


async def test_a_failed_head_that_blocks_its_partition_is_kept_until_it_is_cleared_away(pg: Connection) -> None:
    await publish(pg, "t", policy="block")
    job_id = await finished(pg, days_ago=40, partition_key="p")

    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 0
    await INTAKE.cancel(pg, job_id, actor=None)
    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 1


async def test_a_job_that_is_being_retried_is_not_waited_for_and_is_kept(pg: Connection, other: Connection) -> None:
    job_id = await finished(pg, days_ago=40)
    transaction = other.transaction()
    await transaction.start()
    await INTAKE.retry(other, job_id, from_start=False, actor=None)

    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 0
    await transaction.commit()

    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 0
    assert await left(pg) == {job_id}


async def test_two_pruners_do_not_wait_for_each_other(pg: Connection, other: Connection) -> None:
    await finished(pg, days_ago=40)
    transaction = other.transaction()
    await transaction.start()

    assert await RECOVERY.prune_jobs(other, retention_days=30) == 1
    assert await RECOVERY.prune_jobs(pg, retention_days=30) == 0

    await transaction.commit()


class TestKeys:
    async def test_a_key_outlives_its_job_for_seven_days(self, pg: Connection) -> None:
        job_id = await finished(pg, days_ago=6.9, idempotency_key="k")
        await RECOVERY.prune_jobs(pg, retention_days=1)
        assert await left(pg) == set()

        assert await RECOVERY.prune_keys(pg) == 0
        assert [answer.job_id for answer in await answers(pg, job(idempotency_key="k"))] == [job_id]
        await age(pg, job_id, 7.1)
        assert await RECOVERY.prune_keys(pg) == 1
        (fresh,) = await answers(pg, job(idempotency_key="k"))
        assert fresh.created
        assert fresh.job_id != job_id

    async def test_a_key_lives_at_least_as_long_as_its_job(self, pg: Connection) -> None:
        job_id = await finished(pg, days_ago=20, idempotency_key="k")
        await RECOVERY.prune_jobs(pg, retention_days=30)

        assert await RECOVERY.prune_keys(pg) == 0
        assert [answer.job_id for answer in await answers(pg, job(idempotency_key="k"))] == [job_id]

    async def test_the_key_of_a_job_that_still_runs_is_kept(self, pg: Connection) -> None:
        await running(pg, idempotency_key="k")
        await pg.execute("update dl_idempotency set created_at = now() - interval '90 days'")

        assert await RECOVERY.prune_keys(pg) == 0

    async def test_a_batch_takes_no_more_than_it_may(self, pg: Connection) -> None:
        for n in range(5):
            await finished(pg, days_ago=40, idempotency_key=f"k{n}")
        await RECOVERY.prune_jobs(pg, retention_days=30)
        sql = load_queries(SCHEMA).prune_keys

        assert [await pg.fetchval(sql, 2) for _ in range(4)] == [2, 2, 1, 0]
