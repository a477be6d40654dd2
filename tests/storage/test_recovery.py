"""Reaping and reconciling: what a worker that is gone had claimed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from dataloader.domain.jobs import Lease
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from dataloader.storage.repositories.rows import Verdict
from tests.storage.conftest import Connect
from tests.storage.scene import (
    INTAKE,
    PATIENCE_S,
    QUEUE,
    RECOVERY,
    WORKER,
    as_json,
    blocked,
    enqueue,
    expire,
    job,
    kinds,
    last_event,
    look,
    promote,
    publish,
    put,
    reap,
    rerun,
    row,
    running,
    settle,
    until,
)


async def lose(pg: Connection, lease: Lease, *, checkpoint: bool = False) -> str:
    """Let a run die, with or without a checkpoint before; return the job's status."""
    if checkpoint:
        assert await QUEUE.checkpoint(pg, lease, state={"epoch": lease.epoch}, progress=None) is False
    await expire(pg, lease.job_id)
    (released,) = await reap(pg)
    return released.status.value


async def hand_over(pg: Connection, lease: Lease, *, checkpoint: bool = False) -> Lease:
    """Give a run back uncharged, with or without a checkpoint before; return the next lease."""
    if checkpoint:
        await QUEUE.checkpoint(pg, lease, state={"epoch": lease.epoch}, progress=None)
    await settle(pg, lease, SettleKind.HANDED_OVER)
    return await rerun(pg, lease.job_id)


async def test_an_expired_lease_goes_back_at_once_uncharged(pg: Connection) -> None:
    lease = await running(pg)
    await expire(pg, lease.job_id)

    (released,) = await reap(pg)

    stored = await row(pg, lease.job_id)
    assert (released.lease, released.status.value, released.attempt, released.ready) == (lease, "queued", 0, True)
    assert (stored["attempt"], stored["losses"], stored["epoch"]) == (0, 1, 1)
    assert (as_json(stored["error"]) or {})["type"] == "LeaseExpired"
    assert abs(stored["available_at"] - datetime.now(UTC)) < timedelta(seconds=PATIENCE_S)
    event = await last_event(pg, lease.job_id)
    assert (event["kind"], event["actor"], event["data"]["losses"]) == ("lease_expired", "reaper:test", 1)
    assert event["data"]["worker_id"] == str(WORKER)


async def test_a_lease_that_holds_is_left_alone(pg: Connection) -> None:
    lease = await running(pg)

    assert await reap(pg) == []
    assert await look(pg, lease.job_id, "status") == ("running",)


async def test_only_what_had_expired_when_the_reaper_asked_is_taken(pg: Connection) -> None:
    """Its statement may have lain in a frozen server, and the beats of live workers with it."""
    lease = await running(pg)
    asked_at = await RECOVERY.server_time(pg)
    await put(pg, lease.job_id, lease_expires_at=asked_at + timedelta(milliseconds=1))
    await until(lambda: pg.fetchval("select clock_timestamp() > $1", asked_at + timedelta(milliseconds=1)))

    assert await RECOVERY.reap(pg, asked_at, grace_s=0.0, actor="reaper:test") == []
    assert len(await reap(pg)) == 1


async def test_after_a_start_of_the_server_live_workers_renew_first(pg: Connection) -> None:
    lease = await running(pg)
    await expire(pg, lease.job_id)
    up_s = float(await pg.fetchval("select extract(epoch from clock_timestamp() - pg_postmaster_start_time())::float8"))

    assert await reap(pg, grace_s=up_s + 3_600) == []
    assert len(await reap(pg, grace_s=0.0)) == 1


class TestLosses:
    """They count in a row, and from one again when the checkpoint has advanced since the last one."""

    async def test_the_third_in_a_row_ends_the_job_as_lost(self, pg: Connection) -> None:
        lease = await running(pg)
        assert await lose(pg, lease) == "queued"
        assert await lose(pg, await rerun(pg, lease.job_id)) == "queued"
        assert await lose(pg, await rerun(pg, lease.job_id)) == "lost"

        stored = await row(pg, lease.job_id)
        assert (stored["losses"], stored["attempt"], stored["finished_at"] is None) == (3, 0, False)
        assert (await kinds(pg, lease.job_id))[-1] == "lost"

    async def test_the_trigger_may_allow_fewer(self, pg: Connection) -> None:
        assert await lose(pg, await running(pg, max_losses=1)) == "lost"

    async def test_a_run_that_advanced_counts_as_the_first_loss(self, pg: Connection) -> None:
        lease = await running(pg)
        for _ in range(6):
            assert await lose(pg, lease, checkpoint=True) == "queued"
            assert await look(pg, lease.job_id, "losses") == (1,)
            lease = await rerun(pg, lease.job_id)

    async def test_a_checkpoint_before_the_last_loss_does_not_count_again(self, pg: Connection) -> None:
        lease = await running(pg)
        assert await lose(pg, lease, checkpoint=True) == "queued"
        assert await lose(pg, await rerun(pg, lease.job_id)) == "queued"
        assert await look(pg, lease.job_id, "losses") == (2,)
        assert await lose(pg, await rerun(pg, lease.job_id)) == "lost"

    async def test_a_run_between_that_advanced_and_was_handed_over_counts(self, pg: Connection) -> None:
        lease = await running(pg)
        await lose(pg, lease)
        await lose(pg, await rerun(pg, lease.job_id))
        lease = await hand_over(pg, await rerun(pg, lease.job_id), checkpoint=True)

        assert await lose(pg, lease) == "queued"
        assert await look(pg, lease.job_id, "losses") == (1,)

    async def test_a_run_between_that_was_handed_over_without_a_checkpoint_does_not(self, pg: Connection) -> None:
        lease = await running(pg)
        await lose(pg, lease, checkpoint=True)
        lease = await hand_over(pg, await rerun(pg, lease.job_id))

        assert await lose(pg, lease) == "queued"
        assert await look(pg, lease.job_id, "losses") == (2,)

    async def test_a_checkpoint_between_two_failed_attempts_counts(self, pg: Connection) -> None:
        lease = await running(pg)
        await lose(pg, lease)
        lease = await rerun(pg, lease.job_id)
        await QUEUE.checkpoint(pg, lease, state={"x": 1}, progress=None)
        await settle(pg, lease, SettleKind.RETRY)

        assert await lose(pg, await rerun(pg, lease.job_id)) == "queued"
        assert await look(pg, lease.job_id, "losses") == (1,)

    async def test_a_retry_by_hand_starts_from_zero(self, pg: Connection) -> None:
        lease = await running(pg, max_losses=2)
        await lose(pg, lease, checkpoint=True)
        assert await lose(pg, await rerun(pg, lease.job_id)) == "lost"
        await INTAKE.retry(pg, lease.job_id, from_start=False, actor=None)

        assert await lose(pg, await rerun(pg, lease.job_id)) == "queued"
        assert await look(pg, lease.job_id, "losses") == (1,)


async def test_a_job_that_was_asked_to_stop_ends_canceled_and_never_returns(pg: Connection) -> None:
    lease = await running(pg)
    await INTAKE.cancel(pg, lease.job_id, actor=None)

    assert await lose(pg, lease) == "canceled"
    assert await look(pg, lease.job_id, "ready cancel_requested") == (False, True)
    assert (await kinds(pg, lease.job_id))[-1] == "canceled"


@pytest.mark.parametrize(("policy", "blocks"), [("block", True), ("skip", False)])
async def test_a_lost_head_does_to_its_partition_what_the_task_says(pg: Connection, policy: str, blocks: bool) -> None:
    await publish(pg, "t", policy=policy)
    lease = await running(pg, partition_key="p", max_losses=1)
    (behind,) = await enqueue(pg, job(partition_key="p"))

    assert await lose(pg, lease) == "lost"
    await promote(pg, partitions="p")

    assert (await row(pg, behind))["ready"] is not blocks


async def test_a_job_with_keys_waits_for_its_turn_again(pg: Connection) -> None:
    lease = await running(pg, lock_key="l", partition_key="p")
    await expire(pg, lease.job_id)

    (released,) = await reap(pg)

    assert (released.ready, released.lock_key, released.partition_key) == (False, "l", "p")


async def test_any_number_of_reapers_take_each_job_once(pg: Connection, connect_more: Connect) -> None:
    leases = [await running(pg) for _ in range(50)]
    await expire(pg, *[lease.job_id for lease in leases])
    sessions = [await connect_more() for _ in range(4)]

    taken = await asyncio.gather(*(reap(session) for session in sessions))
    taken.append(await reap(pg))

    assert sorted(one.lease.job_id for part in taken for one in part) == sorted(lease.job_id for lease in leases)
    assert await pg.fetchval("select max(losses) from dl_jobs") == 1


class TestRaces:
    """Reap against a heartbeat: the same row, so exactly one order exists."""

    async def test_a_beat_that_came_first_keeps_its_lease(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        (beat,) = await QUEUE.heartbeat(other, {lease: None})
        assert beat.verdict is Verdict.OK

        assert await reap(pg) == []
        await transaction.commit()

        assert await reap(pg) == []
        assert await look(pg, lease.job_id, "status losses") == ("running", 0)

    async def test_a_beat_that_comes_second_is_busy_and_then_lost(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        await reap(other)

        assert [beat.verdict for beat in await QUEUE.heartbeat(pg, {lease: None})] == [Verdict.BUSY]
        await transaction.commit()

        assert [beat.verdict for beat in await QUEUE.heartbeat(pg, {lease: None})] == [Verdict.LOST]

    async def test_a_beat_that_is_rolled_back_leaves_the_lease_to_the_reaper(
        self, pg: Connection, other: Connection
    ) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        await QUEUE.heartbeat(other, {lease: None})
        await transaction.rollback()

        assert len(await reap(pg)) == 1

    async def test_a_cancel_that_waited_for_the_reaper_cancels_the_queued_job(
        self, pg: Connection, other: Connection
    ) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        await reap(other)
        async with asyncio.TaskGroup() as group:
            cancel = group.create_task(INTAKE.cancel(pg, lease.job_id, actor=None))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await transaction.commit()

        answer = cancel.result()
        assert answer is not None
        assert answer.before == "queued"
        assert await look(pg, lease.job_id, "status") == ("canceled",)

    async def test_a_hundred_finishes_against_a_reaper_end_once_each(
        self, pg: Connection, other: Connection, connect_more: Connect
    ) -> None:
        leases = [await running(pg) for _ in range(100)]
        third = await connect_more()
        await expire(pg, *[lease.job_id for lease in leases])

        async def finish() -> int:
            return sum([await settle(other, lease, SettleKind.SUCCEEDED) is not None for lease in leases])

        async def reap_on() -> int:
            return sum([len(await reap(third)) for _ in range(10)])

        finished, taken = await asyncio.gather(finish(), reap_on())

        assert finished + taken == len(leases)
        assert await pg.fetchval("select count(*) from dl_jobs where status = 'succeeded'") == finished
        assert (
            await pg.fetchval("select count(*) from dl_job_events where kind in ('succeeded', 'lease_expired')") == 100
        )


class TestReconcile:
    """A claim whose answer was lost belongs to nobody: it is given back uncharged."""

    async def give_back(self, pg: Connection, *held: Lease, age_s: float = 0.0, **fields: Any) -> list[Any]:
        return await RECOVERY.reconcile(pg, worker_id=fields.get("worker_id", WORKER), held=held, age_s=age_s)

    async def test_a_claim_this_worker_does_not_know_of_is_given_back(self, pg: Connection) -> None:
        stray, known = await running(pg), await running(pg)

        (released,) = await self.give_back(pg, known)

        assert (released.lease, released.status.value, released.ready) == (stray, "queued", True)
        assert await look(pg, stray.job_id, "attempt losses handovers") == (0, 0, 1)
        assert await look(pg, known.job_id, "status") == ("running",)
        event = await last_event(pg, stray.job_id)
        assert (event["kind"], event["actor"]) == ("handed_over", f"worker:{WORKER}")

    async def test_a_claim_of_an_older_epoch_does_not_count_as_known(self, pg: Connection) -> None:
        old = await running(pg)
        new = await hand_over(pg, old)

        assert [one.lease for one in await self.give_back(pg, old)] == [new]

    async def test_a_claim_that_may_still_be_in_flight_is_left_alone(self, pg: Connection) -> None:
        await running(pg)

        assert await self.give_back(pg, age_s=15.0) == []

    async def test_claims_of_other_workers_are_left_alone(self, pg: Connection) -> None:
        await running(pg)

        assert await self.give_back(pg, worker_id=uuid4()) == []

    async def test_one_that_was_asked_to_stop_ends_canceled(self, pg: Connection) -> None:
        lease = await running(pg)
        await INTAKE.cancel(pg, lease.job_id, actor=None)

        (released,) = await self.give_back(pg)

        assert (released.status.value, released.ready) == ("canceled", False)
        assert (await kinds(pg, lease.job_id))[-1] == "canceled"

    async def test_one_with_keys_names_them(self, pg: Connection) -> None:
        await running(pg, lock_key="l", partition_key="p")

        (released,) = await self.give_back(pg)

        assert (released.ready, released.lock_key, released.partition_key) == (False, "l", "p")
