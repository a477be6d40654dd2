"""Enqueue with two real sessions: the same key, partitions, and what may be removed in between."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from dataloader.exceptions import UnavailableError
from dataloader.storage.db import Connection
from tests.storage.conftest import Connect
from tests.storage.scene import INTAKE, RECOVERY, answers, blocked, enqueue, job


async def test_the_loser_of_a_race_gets_the_winners_job(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    request = job(idempotency_key="k")
    transaction = other.transaction()
    await transaction.start()
    (winner,) = await answers(other, request)
    async with asyncio.TaskGroup() as group:
        loser = group.create_task(answers(third, request))
        await blocked(pg, third)
        await transaction.commit()

    (answer,) = loser.result()
    assert (answer.job_id, answer.created, answer.conflict) == (winner.job_id, False, False)


async def test_an_abort_of_the_winner_makes_the_waiter_the_winner(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    request = job(idempotency_key="k")
    transaction = other.transaction()
    await transaction.start()
    (aborted,) = await answers(other, request)
    async with asyncio.TaskGroup() as group:
        waiter = group.create_task(answers(third, request))
        await blocked(pg, third)
        await transaction.rollback()

    (answer,) = waiter.result()
    assert answer.created
    assert answer.job_id != aborted.job_id
    assert await pg.fetchval("select count(*) from dl_jobs") == 1


async def test_another_request_under_the_key_learns_of_the_conflict_after_the_race(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    transaction = other.transaction()
    await transaction.start()
    (winner,) = await answers(other, job(idempotency_key="k"))
    async with asyncio.TaskGroup() as group:
        loser = group.create_task(answers(third, job(idempotency_key="k", args={"other": 1}), job()))
        await blocked(pg, third)
        await transaction.commit()

    conflict, beside = loser.result()
    assert (conflict.job_id, conflict.conflict) == (winner.job_id, True)
    assert beside.created


async def test_a_transaction_that_stays_open_does_not_hold_up_others_for_ever(
    pg: Connection, other: Connection
) -> None:
    transaction = other.transaction()
    await transaction.start()
    await answers(other, job(idempotency_key="k"))

    with pytest.raises(UnavailableError):
        await answers(pg, job(idempotency_key="k"))

    await transaction.rollback()


async def test_batches_with_the_same_keys_in_opposite_order_do_not_deadlock(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    jobs = [job(idempotency_key=f"k{n}", partition_key=f"p{n}") for n in range(50)]

    for turn in range(10):
        await pg.execute("truncate dl_jobs, dl_idempotency")
        one, two = await asyncio.gather(answers(other, *jobs), answers(third, *reversed(jobs)))
        assert [answer.job_id for answer in one] == [answer.job_id for answer in reversed(two)], turn
        assert sum(answer.created for answer in (*one, *two)) == len(jobs)


async def test_a_partition_is_ordered_as_its_jobs_were_acknowledged(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    transaction = other.transaction()
    await transaction.start()
    (first,) = await enqueue(other, job(partition_key="p"))
    async with asyncio.TaskGroup() as group:
        later = group.create_task(enqueue(third, job(partition_key="p")))
        await blocked(pg, third)
        assert not later.done()
        await transaction.commit()

    order = [found["job_id"] for found in await pg.fetch("select job_id from dl_jobs order by seq")]
    assert order == [first, *later.result()]


async def test_other_partitions_do_not_wait(other: Connection, pg: Connection) -> None:
    transaction = other.transaction()
    await transaction.start()
    await enqueue(other, job(partition_key="p"))

    assert len(await enqueue(pg, job(partition_key="q"), job())) == 2

    await transaction.rollback()


async def test_a_batch_of_many_partitions_takes_a_bounded_number_of_locks(pg: Connection) -> None:
    """One lock each would fill the lock table of the whole server."""
    async with pg.transaction():
        await INTAKE.enqueue(pg, [job(partition_key=f"p{n}") for n in range(3_000)], actor=None)
        taken = await pg.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )

    assert 900 < taken <= 1_024


async def test_a_key_that_is_pruned_while_its_replay_waits_still_answers_its_job(
    pg: Connection, other: Connection, connect_more: Connect
) -> None:
    third = await connect_more()
    request = job(idempotency_key="k", partition_key="p")
    (first,) = await answers(pg, request)
    await INTAKE.cancel(pg, first.job_id, actor=None)
    await pg.execute("update dl_jobs set finished_at = now() - interval '9 days'")
    await pg.execute("update dl_idempotency set created_at = now() - interval '9 days'")
    transaction = other.transaction()
    await transaction.start()
    await enqueue(other, job(partition_key="p"))
    async with asyncio.TaskGroup() as group:
        replay = group.create_task(answers(third, request))
        await blocked(pg, third)
        assert await RECOVERY.prune_jobs(pg, retention_days=1) == 1
        assert await RECOVERY.prune_keys(pg) == 1
        await transaction.commit()

    (answer,) = replay.result()
    assert (answer.job_id, answer.created) == (first.job_id, False)
    assert await pg.fetchval("select count(*) from dl_jobs where job_id = $1", answer.job_id) == 0


async def test_a_frozen_key_and_a_repeatable_read_caller_end_with_a_clear_refusal(
    pg: Connection, other: Connection
) -> None:
    transaction = other.transaction(isolation="repeatable_read")
    await transaction.start()
    await other.fetchval("select 1 from dl_jobs")
    await answers(pg, job(idempotency_key="k"))

    with pytest.raises(UnavailableError):
        await answers(other, job(idempotency_key="k"))

    await transaction.rollback()


async def test_sixteen_sessions_and_fifty_keys_make_fifty_jobs(connect_more: Connect, pg: Connection) -> None:
    sessions = [await connect_more() for _ in range(16)]
    keys = [f"k{n}" for n in range(50)]

    async def trigger(session: asyncpg.Connection[asyncpg.Record]) -> list[object]:
        return [(await answers(session, job(idempotency_key=key)))[0].job_id for key in keys]

    replies = await asyncio.gather(*(trigger(session) for session in sessions))

    assert all(reply == replies[0] for reply in replies)
    assert await pg.fetchval("select count(*) from dl_jobs") == len(keys)
