"""Claim: in order, only what may run, never more than asked, never the same job twice."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.conftest import Connect
from tests.storage.scene import (
    LEASE_S,
    WORKER,
    claim,
    claim_after,
    enqueue,
    expire,
    job,
    kinds,
    last_event,
    pause,
    put,
    reap,
    rerun,
    resume,
    row,
    running,
    settle,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def test_a_claim_marks_the_job_and_tells_all_a_run_needs(pg: Connection) -> None:
    (job_id,) = await enqueue(pg, job(args={"a": 1}, max_attempts=3, timeout_s=5.0, stall_timeout_s=2.0))

    (claimed,) = await claim(pg)

    stored = await row(pg, job_id)
    assert (claimed.lease.job_id, claimed.lease.epoch, claimed.attempt, claimed.losses) == (job_id, 1, 1, 0)
    assert (claimed.queue, claimed.task, claimed.args) == ("q", "t", {"a": 1})
    assert (claimed.timeout_s, claimed.stall_timeout_s, claimed.checkpoint, claimed.progress) == (5.0, 2.0, None, None)
    assert (stored["status"], stored["ready"], stored["epoch"], stored["worker_id"]) == ("running", False, 1, WORKER)
    assert stored["started_at"] == stored["heartbeat_at"]
    assert claimed.wait_s == pytest.approx((stored["started_at"] - stored["available_at"]).total_seconds())
    assert stored["lease_expires_at"] - stored["started_at"] == timedelta(seconds=LEASE_S)
    assert (await last_event(pg, job_id))["actor"] == f"worker:{WORKER}"
    assert await kinds(pg, job_id) == ["created", "claimed"]


async def test_every_claim_grows_the_epoch_even_when_the_attempt_is_given_back(pg: Connection) -> None:
    lease = await running(pg)
    await settle(pg, lease, SettleKind.HANDED_OVER)

    again = await rerun(pg, lease.job_id)

    assert again.epoch == 2
    assert (await row(pg, lease.job_id))["attempt"] == 1


@pytest.mark.parametrize("tasks", ["a", "a b", "a b c"])
async def test_the_order_is_priority_then_due_time_then_age_whatever_the_tasks(pg: Connection, tasks: str) -> None:
    names = itertools.cycle(tasks.split())
    ids = await enqueue(
        pg,
        job(task=next(names)),
        job(task=next(names), priority=200, available_at=LONG_AGO),
        job(task=next(names), available_at=LONG_AGO + timedelta(seconds=1)),
        job(task=next(names), available_at=LONG_AGO),
        job(task=next(names), available_at=LONG_AGO),
        job(task=next(names), priority=1),
    )

    one_by_one = [(await claim(pg, 1, tasks=tasks))[0].lease.job_id for _ in range(3)]
    rest = [claimed.lease.job_id for claimed in await claim(pg, tasks=tasks)]

    assert one_by_one + rest == [ids[place] for place in (5, 3, 4, 2, 0, 1)]


async def test_a_claim_goes_on_where_another_one_has_ended(pg: Connection) -> None:
    ids = await enqueue(pg, job(priority=2), job(available_at=LONG_AGO), *[job() for _ in range(4)])

    first, reached = await claim_after(pg, limit=3)
    assert (first, reached.position and reached.position.priority) == (ids[:3], 100)
    assert reached.position is not None
    (urgent,) = await enqueue(pg, job(priority=1))
    assert (await claim_after(pg, reached.position, 2))[0] == ids[3:5]
    assert (await claim_after(pg))[0] == [urgent, ids[5]]


async def test_a_claim_that_takes_nothing_comes_nowhere_and_says_how_long_it_looked(pg: Connection) -> None:
    jobs, reached = await claim_after(pg)
    assert (jobs, reached.position) == ([], None)
    assert 0 < reached.walked_s < 1


async def test_a_claim_that_leaves_a_job_out_comes_nowhere(pg: Connection) -> None:
    """Or the next one would begin behind it."""
    ids = await enqueue(pg, job(), job(), job())
    await pg.execute("update dl_jobs set losses = 1 where job_id = $1", ids[1])

    jobs, reached = await claim_after(pg, idle=True)

    assert (jobs, reached.position) == ([ids[0], ids[2]], None)


async def test_only_tasks_this_process_knows_are_claimed(pg: Connection) -> None:
    await enqueue(pg, job(task="unknown"), job(task="a"), job(task="b"))

    assert [claimed.task for claimed in await claim(pg, tasks="a b")] == ["a", "b"]
    assert await claim(pg, tasks="") == []


async def test_only_the_queue_asked_for_is_claimed_from(pg: Connection) -> None:
    await enqueue(pg, job(queue="other"))

    assert await claim(pg) == []


async def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed(pg: Connection) -> None:
    await enqueue(pg, job(), job(queue="other"))
    await pause(pg, "q")

    assert await claim(pg) == []
    assert len(await claim(pg, queue="other")) == 1
    await resume(pg, "q")
    assert len(await claim(pg)) == 1


async def test_a_job_that_waits_for_its_time_or_its_turn_is_not_claimed(pg: Connection) -> None:
    await enqueue(
        pg, job(lock_key="l"), job(partition_key="p"), job(available_at=datetime.now(UTC) + timedelta(days=1))
    )

    assert await claim(pg) == []


async def test_no_more_than_the_free_slots_are_claimed(pg: Connection) -> None:
    await enqueue(pg, *[job() for _ in range(10)])

    assert [len(await claim(pg, limit)) for limit in (3, 0, 1, 100)] == [3, 0, 1, 6]


@pytest.mark.parametrize("idle", [True, False])
async def test_a_plan_that_repeats_the_subquery_claims_no_more(pg: Connection, idle: bool) -> None:
    """F04: a nested loop over a LIMIT that locks claims again and again unless the list is made once."""
    await enqueue(pg, *[job() for _ in range(300)])
    for method in ("hashjoin", "mergejoin", "material", "bitmapscan", "memoize"):
        await pg.execute(f"set enable_{method} = off")

    assert [len(await claim(pg, 7, idle=idle)) for _ in range(20)] == [7] * 20


@pytest.mark.parametrize("tasks", ["a", "a b"])
async def test_what_another_session_has_locked_is_passed_over_and_not_waited_for(
    pg: Connection, other: Connection, tasks: str
) -> None:
    names = itertools.cycle(tasks.split())
    first, second, third = await enqueue(pg, *[job(task=next(names)) for _ in range(3)])
    transaction = other.transaction()
    await transaction.start()
    (taken,) = await claim(other, 1, tasks=tasks)

    claimed = await claim(pg, 2, tasks=tasks)
    await transaction.rollback()

    assert taken.lease.job_id == first
    assert [one.lease.job_id for one in claimed] == [second, third]
    assert [one.lease.job_id for one in await claim(pg, tasks=tasks)] == [first]


async def test_a_claim_locks_nothing_that_it_does_not_take(pg: Connection, other: Connection) -> None:
    await enqueue(pg, *[job(task=task) for task in "abab"])
    transaction = other.transaction()
    await transaction.start()
    await claim(other, 1, tasks="a b")

    assert len(await claim(pg, tasks="a b")) == 3
    await transaction.rollback()


async def test_many_claimers_never_get_the_same_job(pg: Connection, connect_more: Connect) -> None:
    sessions = [await connect_more() for _ in range(8)]
    ids = await enqueue(pg, *[job() for _ in range(600)])

    async def drain(session: Connection, limit: int) -> list[UUID]:
        mine: list[UUID] = []
        while claimed := await claim(session, limit, worker_id=uuid4()):
            mine += [one.lease.job_id for one in claimed]
        return mine

    taken = await asyncio.gather(*(drain(session, limit) for limit, session in enumerate(sessions, start=1)))

    # A claimer that found only rows of others stops early; one more look takes what is left.
    rest = [one.lease.job_id for one in await claim(pg, 600)]
    assert sorted(map(str, [job_id for part in [*taken, rest] for job_id in part])) == sorted(map(str, ids))
    assert await pg.fetchval("select max(epoch) from dl_jobs") == 1


class TestAJobThatWasLostBefore:
    """It runs alone where it can, so that what killed its worker takes no others with it."""

    @pytest.fixture
    async def suspect(self, pg: Connection) -> UUID:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        await reap(pg)
        return lease.job_id

    async def test_an_idle_process_takes_it_alone(self, pg: Connection, suspect: UUID) -> None:
        await put(pg, suspect, priority=1)
        await enqueue(pg, job(), job())

        assert [one.lease.job_id for one in await claim(pg, idle=True)] == [suspect]

    async def test_an_idle_process_takes_others_without_it_when_they_come_first(
        self, pg: Connection, suspect: UUID
    ) -> None:
        ids = await enqueue(pg, job(priority=1), job(priority=1))

        assert [one.lease.job_id for one in await claim(pg, idle=True)] == ids

    async def test_a_busy_process_leaves_it_to_an_idle_one(self, pg: Connection, suspect: UUID) -> None:
        assert await claim(pg) == []
        assert [one.lease.job_id for one in await claim(pg, idle=True)] == [suspect]

    async def test_a_busy_process_takes_it_once_it_has_waited_for_a_whole_lease(
        self, pg: Connection, suspect: UUID
    ) -> None:
        await put(pg, suspect, available_at=datetime.now(UTC) - timedelta(seconds=LEASE_S + 1))
        (beside,) = await enqueue(pg, job())

        assert [one.lease.job_id for one in await claim(pg)] == [suspect, beside]

    async def test_it_tells_its_losses_to_the_claimer(self, pg: Connection, suspect: UUID) -> None:
        (claimed,) = await claim(pg, idle=True)

        assert (claimed.losses, claimed.attempt, claimed.lease.epoch) == (1, 1, 2)
