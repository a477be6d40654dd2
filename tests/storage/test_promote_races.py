"""Promotion by many at once: no overlap, no deadlock, nothing seen too early."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from dataloader.domain.jobs import Keys
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.conftest import Connect
from tests.storage.scene import (
    INTAKE,
    PROMOTION,
    blocked,
    claim,
    enqueue,
    job,
    promote,
    ready,
    settle,
    settle_surely,
)

LATER = timedelta(hours=1)


class TestConcurrency:
    @pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
    async def test_only_read_committed_is_fresh_enough(self, pg: Connection, isolation: Any) -> None:
        await enqueue(pg, job(lock_key="l"))

        with pytest.raises(asyncpg.ActiveSQLTransactionError):
            async with pg.transaction(isolation=isolation):
                await promote(pg, "l")

        assert await ready(pg) == []

    @pytest.mark.parametrize(
        "keys", [{"lock_key": "k"}, {"partition_key": "k"}, {"lock_key": "k", "partition_key": "k"}]
    )
    async def test_the_second_of_two_promotes_of_a_key_sees_what_the_first_has_done(
        self, pg: Connection, other: Connection, keys: dict[str, str]
    ) -> None:
        first, _ = await enqueue(pg, job(**keys), job(**keys))
        transaction = other.transaction()
        await transaction.start()
        await promote(other, keys.get("lock_key", ""), keys.get("partition_key", ""))
        async with asyncio.TaskGroup() as group:
            group.create_task(promote(pg, keys.get("lock_key", ""), keys.get("partition_key", "")))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await transaction.commit()

        assert await ready(pg) == [first]

    async def test_a_promote_beside_an_open_settle_leaves_the_key_to_the_follow_up(
        self, pg: Connection, other: Connection
    ) -> None:
        _, second = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))
        await promote(pg, "l")
        (claimed,) = await claim(pg)
        transaction = other.transaction()
        await transaction.start()
        await settle(other, claimed.lease, SettleKind.SUCCEEDED)

        await promote(pg, "l")
        assert await ready(pg) == []
        await transaction.commit()
        await promote(pg, "l")
        assert await ready(pg) == [second]

    async def test_a_candidate_that_is_canceled_meanwhile_is_passed_over(
        self, pg: Connection, other: Connection
    ) -> None:
        first, second = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))
        transaction = other.transaction()
        await transaction.start()
        await INTAKE.cancel(other, first, actor=None)

        await promote(pg, "l")
        await transaction.commit()

        assert await ready(pg) == [second]

    async def test_a_job_enqueued_in_a_transaction_that_stays_open_is_not_offered_and_holds_up_nobody(
        self, pg: Connection, other: Connection
    ) -> None:
        transaction = other.transaction()
        await transaction.start()
        await enqueue(other, job(lock_key="l", partition_key="p"))
        (visible,) = await enqueue(pg, job(lock_key="l"))

        await promote(pg, "l", "p")
        assert await ready(pg) == [visible]
        await transaction.rollback()

    async def test_twelve_workers_and_three_hundred_jobs_of_one_key_never_overlap(
        self, pg: Connection, connect_more: Connect
    ) -> None:
        """F02, in which the first design had 66 unique violations."""
        await enqueue(pg, *[job(lock_key="l") for _ in range(300)])
        await promote(pg, "l")
        sessions = [await connect_more() for _ in range(12)]
        turns: list[int] = []

        async def work(session: Connection) -> None:
            while await session.fetchval("select 1 from dl_jobs where status in ('queued', 'running') limit 1"):
                for claimed in await claim(session, 5):
                    turns.append(await session.fetchval("select count(*) from dl_jobs where status = 'running'"))
                    await settle_surely(session, claimed.lease, SettleKind.SUCCEEDED)
                await promote(session, "l")

        await everyone(work(session) for session in sessions)

        assert turns == [1] * 300
        assert await pg.fetchval("select count(*) from dl_jobs where status = 'succeeded' and attempt = 1") == 300

    async def test_promotes_with_the_keys_in_any_order_neither_deadlock_nor_violate_an_index(
        self, pg: Connection, connect_more: Connect
    ) -> None:
        locks, partitions = [f"l{n}" for n in range(6)], [f"p{n}" for n in range(6)]
        jobs = [job(lock_key=lock, partition_key=partition) for lock in locks for partition in partitions]
        await enqueue(pg, *jobs, *jobs)
        sessions = [await connect_more() for _ in range(6)]

        async def work(session: Connection, lock: str, partition: str) -> None:
            while await session.fetchval("select 1 from dl_jobs where finished_at is null limit 1"):
                await promote(session, lock)
                await promote(session, partitions=partition)
                for claimed in await claim(session, 3):
                    await settle_surely(session, claimed.lease, SettleKind.SUCCEEDED)
                await PROMOTION.promote(session, Keys(frozenset(locks), frozenset(partitions)))

        await everyone(work(*where) for where in zip(sessions, locks, partitions, strict=True))

        assert await pg.fetchval("select count(*) from dl_jobs where status = 'succeeded'") == 2 * len(jobs)
        here = "(select oid from pg_database where datname = current_database())"
        assert (
            await pg.fetchval(f"select count(*) from pg_locks where locktype = 'advisory' and database = {here}") == 0
        )


async def everyone(work: Any) -> list[Any]:
    """Run coroutines side by side; the first error ends all."""
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
    return [task.result() for task in tasks]
