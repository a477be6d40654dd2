"""Settle: how a run ended, decided on the locked row, written only under its own fence."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any
from uuid import uuid4

import pytest

from dataloader.domain.jobs import Keys, Lease
from dataloader.domain.outcomes import SettleKind, Settlement
from dataloader.storage.db import Connection
from tests.storage.scene import (
    ACTOR,
    INTAKE,
    LEASE_S,
    QUEUE,
    as_json,
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
)

ERROR: dict[str, object] = {"type": "ValueError", "message": "no", "traceback": None}
K = SettleKind

ENDS = {
    # kind, canceled, last attempt: status, attempt after a second attempt, event
    (K.SUCCEEDED, False, False): ("succeeded", 2, "succeeded"),
    (K.SUCCEEDED, False, True): ("succeeded", 2, "succeeded"),
    (K.SUCCEEDED, True, False): ("succeeded", 2, "succeeded"),
    (K.SUCCEEDED, True, True): ("succeeded", 2, "succeeded"),
    (K.RETRY, False, False): ("queued", 2, "retry_scheduled"),
    (K.RETRY, False, True): ("failed", 2, "failed"),
    (K.RETRY, True, False): ("canceled", 2, "canceled"),
    (K.RETRY, True, True): ("canceled", 2, "canceled"),
    (K.FAILED, False, False): ("failed", 2, "failed"),
    (K.FAILED, False, True): ("failed", 2, "failed"),
    (K.FAILED, True, False): ("canceled", 2, "canceled"),
    (K.FAILED, True, True): ("canceled", 2, "canceled"),
    (K.CANCELED, False, False): ("canceled", 2, "canceled"),
    (K.CANCELED, False, True): ("canceled", 2, "canceled"),
    (K.CANCELED, True, False): ("canceled", 2, "canceled"),
    (K.CANCELED, True, True): ("canceled", 2, "canceled"),
    (K.HANDED_OVER, False, False): ("queued", 1, "handed_over"),
    (K.HANDED_OVER, False, True): ("queued", 1, "handed_over"),
    (K.HANDED_OVER, True, False): ("canceled", 1, "canceled"),
    (K.HANDED_OVER, True, True): ("canceled", 1, "canceled"),
    (K.RETRY_LATER, False, False): ("queued", 1, "retry_later"),
    (K.RETRY_LATER, False, True): ("queued", 1, "retry_later"),
    (K.RETRY_LATER, True, False): ("canceled", 1, "canceled"),
    (K.RETRY_LATER, True, True): ("canceled", 1, "canceled"),
}


async def second_attempt(pg: Connection, *, last: bool, canceled: bool) -> Lease:
    lease = await running(pg, max_attempts=2 if last else 5)
    await settle(pg, lease, K.RETRY, error=ERROR)
    lease = await rerun(pg, lease.job_id)
    if canceled:
        await INTAKE.cancel(pg, lease.job_id, actor=None)
    return lease


def test_the_table_below_is_complete() -> None:
    assert set(ENDS) == set(product(K, (False, True), (False, True)))


@pytest.mark.parametrize(("kind", "canceled", "last"), ENDS)
async def test_every_kind_of_end(pg: Connection, kind: SettleKind, canceled: bool, last: bool) -> None:
    lease = await second_attempt(pg, last=last, canceled=canceled)
    status, attempt, event = ENDS[kind, canceled, last]

    released = await settle(pg, lease, kind, delay_s=60.0, error=ERROR if kind in {K.RETRY, K.FAILED} else None)

    stored = await row(pg, lease.job_id)
    assert released is not None
    assert (released.lease, released.status.value, released.attempt, released.ready) == (lease, status, attempt, False)
    assert (stored["status"], stored["attempt"], stored["epoch"]) == (status, attempt, lease.epoch)
    assert stored["lease_expires_at"] is None
    assert (stored["finished_at"] is None) == (status == "queued")
    assert stored["handovers"] == int(event == "handed_over")
    assert (await kinds(pg, lease.job_id))[-1] == event
    if status == "queued":
        assert timedelta(seconds=50) < stored["available_at"] - datetime.now(UTC) <= timedelta(seconds=60)


async def test_a_success_clears_the_error_and_keeps_result_and_progress(pg: Connection) -> None:
    lease = await second_attempt(pg, last=False, canceled=False)
    assert as_json((await row(pg, lease.job_id))["error"]) == ERROR

    await settle(pg, lease, K.SUCCEEDED, result={"rows": 3}, progress={"done": 3})

    stored = await row(pg, lease.job_id)
    assert (stored["error"], as_json(stored["result"]), as_json(stored["progress"])) == (None, {"rows": 3}, {"done": 3})


async def test_a_failure_keeps_its_error_and_the_audit_log_tells_it(pg: Connection) -> None:
    lease = await running(pg)

    await settle(pg, lease, K.FAILED, error=ERROR, progress={"done": 7})

    event = await last_event(pg, lease.job_id)
    assert as_json((await row(pg, lease.job_id))["error"]) == ERROR
    assert event["data"] == {"error": {"type": "ValueError", "message": "no"}, "done": 7}
    assert (event["actor"], event["epoch"], event["attempt"]) == (ACTOR, 1, 1)


async def test_a_hand_over_tells_its_reason_and_is_ready_at_once(pg: Connection) -> None:
    lease = await running(pg)

    released = await settle(pg, lease, K.HANDED_OVER, data={"reason": "shutdown"})

    assert released is not None
    assert released.ready
    assert (await last_event(pg, lease.job_id))["data"]["reason"] == "shutdown"


@pytest.mark.parametrize("delay_s", [-5.0, 1e12, float("inf"), float("nan")])
async def test_no_delay_can_make_an_end_unwritable(pg: Connection, delay_s: float) -> None:
    lease = await running(pg)

    released = await settle(pg, lease, K.RETRY_LATER, delay_s=delay_s)

    assert released is not None
    assert released.ready == (delay_s < 0)
    assert abs((await row(pg, lease.job_id))["available_at"] - datetime.now(UTC)) < timedelta(days=40 * 366)


class TestComplete:
    """Runs that succeeded and left nothing to say, many at once."""

    async def test_it_writes_what_a_settle_writes(self, pg: Connection) -> None:
        one, other = [await second_attempt(pg, last=False, canceled=True) for _ in range(2)]
        await QUEUE.checkpoint(pg, one, state={"at": 1}, progress={"done": 7})
        await QUEUE.checkpoint(pg, other, state={"at": 1}, progress={"done": 7})

        assert await settle(pg, one, K.SUCCEEDED) is not None
        assert await QUEUE.complete(pg, [other], actor=ACTOR) == (frozenset(), Keys())

        rows, logs = zip(*[await written(pg, lease) for lease in (one, other)], strict=True)
        assert rows[0] == rows[1]
        assert logs[0] == logs[1]
        assert (rows[0]["status"], rows[0]["error"], logs[0]["data"]) == ("succeeded", None, {"done": 7})

    async def test_it_tells_the_keys_that_are_free_and_the_runs_that_it_did_not_write(
        self, pg: Connection, other: Connection
    ) -> None:
        keyed = await running(pg, lock_key="l", partition_key="p")
        locked, gone = await running(pg), await running(pg)
        zombie = Lease(gone.job_id, gone.epoch)
        await expire(pg, gone.job_id)
        await reap(pg)
        successor = await rerun(pg, gone.job_id)
        transaction = other.transaction()
        await transaction.start()
        await other.execute("select from dl_jobs where job_id = $1 for update", locked.job_id)

        completed = await QUEUE.complete(pg, [keyed, locked, zombie, successor, Lease(uuid4(), 1)], actor=ACTOR)
        await transaction.rollback()

        assert completed.keys == Keys(frozenset({"l"}), frozenset({"p"}))
        assert {locked, zombie} < completed.missing
        assert len(completed.missing) == 3
        assert (await row(pg, locked.job_id))["status"] == "running"
        assert await look(pg, gone.job_id, "status epoch") == ("succeeded", successor.epoch)

    async def test_where_none_is_written_all_are_missing(self, pg: Connection) -> None:
        lease = await running(pg)
        before = await row(pg, lease.job_id)
        strangers = [Lease(lease.job_id, lease.epoch + 1), Lease(lease.job_id, lease.epoch - 1)]

        assert await QUEUE.complete(pg, strangers, actor=ACTOR) == (frozenset(strangers), Keys())
        assert await row(pg, lease.job_id) == before
        assert await kinds(pg, lease.job_id) == ["created", "claimed"]


async def written(pg: Connection, lease: Lease) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a job's row and its last event, without what is of this job alone."""
    own = {"job_id", "seq", "created_at", "available_at", "started_at", "heartbeat_at", "finished_at"}
    stored, event = await row(pg, lease.job_id), await last_event(pg, lease.job_id)
    assert stored["finished_at"] is not None
    facts = {name: value for name, value in dict(stored).items() if name not in own}
    return facts, {name: value for name, value in dict(event).items() if name not in {"event_id", "job_id", "at"}}


class TestTheFence:
    """A run whose lease is gone changes nothing."""

    @pytest.mark.parametrize("kind", list(K))
    async def test_another_epoch_changes_nothing(self, pg: Connection, kind: SettleKind) -> None:
        lease = await running(pg)
        before = await row(pg, lease.job_id)

        for epoch in (lease.epoch - 1, lease.epoch + 1):
            assert await settle(pg, Lease(lease.job_id, epoch), kind, error=ERROR, result={"x": 1}) is None

        assert await row(pg, lease.job_id) == before
        assert await kinds(pg, lease.job_id) == ["created", "claimed"]

    @pytest.mark.parametrize("state", ["requeued", "running again", "succeeded", "failed", "canceled", "lost"])
    async def test_a_zombie_can_do_nothing_by_any_verb_in_any_later_state(self, pg: Connection, state: str) -> None:
        lease = await running(pg, max_losses=1 if state == "lost" else 3)
        if state in {"requeued", "running again", "lost"}:
            await expire(pg, lease.job_id)
            await reap(pg)
        else:
            await settle(pg, lease, K(state))
        if state == "running again":
            await put(pg, lease.job_id, losses=0)
            await rerun(pg, lease.job_id)
        before, events = await row(pg, lease.job_id), await kinds(pg, lease.job_id)

        for kind in K:
            assert await settle(pg, lease, kind, error=ERROR, result={"zombie": 1}) is None
        assert await QUEUE.complete(pg, [lease], actor=ACTOR) == (frozenset({lease}), Keys())
        assert [beat.verdict for beat in await QUEUE.heartbeat(pg, {lease: {"zombie": 1}})] == ["lost"]
        assert await QUEUE.checkpoint(pg, lease, state={"zombie": 1}, progress={"zombie": 1}) is None

        assert await row(pg, lease.job_id) == before
        assert await kinds(pg, lease.job_id) == events

    async def test_an_unknown_job_is_no_error(self, pg: Connection) -> None:
        assert await settle(pg, Lease(uuid4(), 1), K.SUCCEEDED) is None

    async def test_the_second_of_two_answers_is_dropped(self, pg: Connection) -> None:
        lease = await running(pg)

        assert await settle(pg, lease, K.SUCCEEDED) is not None
        assert await settle(pg, lease, K.FAILED, error=ERROR) is None
        assert await QUEUE.fates(pg, [lease.job_id, uuid4()]) == {lease.job_id: (1, "succeeded")}

    @pytest.mark.parametrize("reaped", [True, False])
    async def test_a_row_that_the_reaper_holds_is_left_out_and_settled_when_it_is_known_what_became_of_it(
        self, pg: Connection, other: Connection, reaped: bool
    ) -> None:
        lease, beside = await running(pg), await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        assert len(await reap(other)) == 1

        both = [Settlement(lease, K.SUCCEEDED), Settlement(beside, K.SUCCEEDED)]
        assert [one.lease for one in await QUEUE.settle(pg, both, actor=ACTOR)] == [beside]
        assert await QUEUE.fates(pg, [lease.job_id]) == {lease.job_id: (1, "running")}
        await (transaction.commit if reaped else transaction.rollback)()

        assert (await settle(pg, lease, K.SUCCEEDED) is None) is reaped
        assert await look(pg, lease.job_id, "status losses") == (("queued", 1) if reaped else ("succeeded", 0))

    async def test_a_settle_that_came_first_leaves_the_reaper_nothing(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        assert await settle(other, lease, K.SUCCEEDED) is not None

        assert await reap(pg) == []
        await transaction.commit()

        assert await reap(pg) == []
        assert await look(pg, lease.job_id, "status losses") == ("succeeded", 0)


class TestStartOver:
    """A task may let its attempts start over once the checkpoint has advanced."""

    async def test_an_attempt_that_advanced_counts_as_the_first(self, pg: Connection) -> None:
        lease = await second_attempt(pg, last=True, canceled=False)
        await QUEUE.checkpoint(pg, lease, state={"at": 1}, progress=None)

        released = await settle(pg, lease, K.RETRY, start_over=True, error=ERROR)

        assert released is not None
        assert (released.status.value, released.attempt) == ("queued", 1)

    async def test_an_attempt_that_only_inherited_its_checkpoint_does_not(self, pg: Connection) -> None:
        lease = await running(pg, max_attempts=2)
        await QUEUE.checkpoint(pg, lease, state={"at": 1}, progress=None)
        await settle(pg, lease, K.RETRY, error=ERROR)
        lease = await rerun(pg, lease.job_id)

        released = await settle(pg, lease, K.RETRY, start_over=True, error=ERROR)

        assert released is not None
        assert released.status.value == "failed"

    async def test_without_the_tasks_wish_attempts_go_on(self, pg: Connection) -> None:
        lease = await second_attempt(pg, last=True, canceled=False)
        await QUEUE.checkpoint(pg, lease, state={"at": 1}, progress=None)

        released = await settle(pg, lease, K.RETRY, error=ERROR)

        assert released is not None
        assert released.status.value == "failed"


@pytest.mark.parametrize(("kind", "blocks"), [(K.FAILED, True), (K.CANCELED, False), (K.SUCCEEDED, False)])
async def test_a_failed_head_blocks_its_partition_where_the_task_says_so(
    pg: Connection, kind: SettleKind, blocks: bool
) -> None:
    await publish(pg, "t", policy="block")
    lease = await running(pg, partition_key="p")
    (behind,) = await enqueue(pg, job(partition_key="p"))

    await settle(pg, lease, kind)
    await promote(pg, partitions="p")

    assert (await row(pg, lease.job_id))["blocks_partition"] is blocks
    assert (await row(pg, behind))["ready"] is not blocks


async def test_a_failed_head_is_skipped_by_default(pg: Connection) -> None:
    lease = await running(pg, partition_key="p")
    (behind,) = await enqueue(pg, job(partition_key="p"))

    released = await settle(pg, lease, K.FAILED)
    await promote(pg, partitions="p")

    assert released is not None
    assert released.partition_key == "p"
    assert (await row(pg, behind))["ready"]


async def test_a_batch_settles_each_run_by_its_own_fence(pg: Connection) -> None:
    leases = [await running(pg) for _ in range(4)]
    stale = Lease(leases[1].job_id, 9)

    released = await QUEUE.settle(
        pg,
        [
            Settlement(leases[0], K.SUCCEEDED, result={"n": 0}),
            Settlement(stale, K.SUCCEEDED),
            Settlement(leases[2], K.RETRY, 30.0, ERROR),
            Settlement(leases[3], K.HANDED_OVER, data={"reason": "x"}),
        ],
        actor=ACTOR,
    )

    assert {one.lease: one.status.value for one in released} == {
        leases[0]: "succeeded",
        leases[2]: "queued",
        leases[3]: "queued",
    }
    assert await look(pg, leases[1].job_id, "status") == ("running",)


async def test_batches_that_share_jobs_in_opposite_order_do_not_deadlock(pg: Connection, other: Connection) -> None:
    leases = [await running(pg) for _ in range(40)]

    def batch(order: list[Lease]) -> list[Settlement]:
        return [Settlement(lease, K.SUCCEEDED) for lease in order]

    one, two = await asyncio.gather(
        QUEUE.settle(pg, batch(leases), actor=ACTOR), QUEUE.settle(other, batch(leases[::-1]), actor=ACTOR)
    )

    assert sorted([settled.lease.job_id for settled in (*one, *two)]) == sorted(lease.job_id for lease in leases)


async def test_whatever_a_pipeline_returns_its_end_can_be_written(pg: Connection) -> None:
    nested: Any = "deep"
    for _ in range(5_000):
        nested = [nested]
    for value in ("nul \x00", "\ud800", float("nan"), 10**400, {1: object()}, nested, "x" * 3_000_000, {b"\xff"}):
        lease = await running(pg)

        released = await settle(pg, lease, K.SUCCEEDED, result=value, error={"message": value}, progress={"p": value})

        assert released is not None
        assert released.status.value == "succeeded"


async def test_a_settled_job_with_keys_names_them_and_waits_for_its_turn(pg: Connection) -> None:
    lease = await running(pg, lock_key="l", partition_key="p")

    released = await settle(pg, lease, K.HANDED_OVER)

    assert released is not None
    assert (released.lock_key, released.partition_key, released.ready) == ("l", "p", False)


async def test_a_lease_lasts_as_long_as_the_repository_says(pg: Connection) -> None:
    lease = await running(pg)
    stored = await row(pg, lease.job_id)

    assert stored["lease_expires_at"] - stored["started_at"] == timedelta(seconds=LEASE_S)
