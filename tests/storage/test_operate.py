"""Cancel and retry, in every state and against each other and the claim."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from dataloader.domain.jobs import JobStatus, Keys
from dataloader.domain.outcomes import SettleKind
from dataloader.exceptions import UnavailableError
from dataloader.storage.db import Connection
from tests.storage.conftest import Connect
from tests.storage.scene import (
    INTAKE,
    QUEUE,
    blocked,
    claim,
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

S = JobStatus


async def bring_to(pg: Connection, status: JobStatus, **fields: object) -> UUID:
    """Return a job in a state, reached by the protocol."""
    if status is S.QUEUED:
        return (await enqueue(pg, job(**fields)))[0]
    lease = await running(pg, **fields | ({"max_losses": 1} if status is S.LOST else {}))
    if status is S.LOST:
        await expire(pg, lease.job_id)
        await reap(pg)
    elif status is not S.RUNNING:
        await settle(pg, lease, SettleKind(status.value), error={"type": "E", "message": "m"})
    return lease.job_id


async def cancel(pg: Connection, job_id: UUID) -> str | None:
    answer = await INTAKE.cancel(pg, job_id, actor="me")
    return None if answer is None else answer.before


async def retry(pg: Connection, job_id: UUID, *, from_start: bool = False) -> str | None:
    answer = await INTAKE.retry(pg, job_id, from_start=from_start, actor="me")
    return None if answer is None else answer.before


class TestCancel:
    @pytest.mark.parametrize("status", list(S))
    async def test_in_every_state(self, pg: Connection, status: JobStatus) -> None:
        job_id = await bring_to(pg, status)
        events = await kinds(pg, job_id)

        assert await cancel(pg, job_id) == status

        after = {S.QUEUED: "canceled"}.get(status, status.value)
        added = {S.QUEUED: ["canceled"], S.RUNNING: ["cancel_requested"]}.get(status, [])
        assert await look(pg, job_id, "status") == (after,)
        assert await kinds(pg, job_id) == events + added
        assert (await row(pg, job_id))["cancel_requested"] is (status in {S.QUEUED, S.RUNNING})

    async def test_a_queued_job_ends_at_once_and_is_not_claimed_any_more(self, pg: Connection) -> None:
        job_id = await bring_to(pg, S.QUEUED)

        await cancel(pg, job_id)

        stored = await row(pg, job_id)
        assert (stored["ready"], stored["attempt"], stored["finished_at"] is None) == (False, 0, False)
        assert await claim(pg) == []
        assert (await last_event(pg, job_id))["actor"] == "me"

    async def test_a_second_cancel_of_a_running_job_is_no_second_event(self, pg: Connection) -> None:
        job_id = await bring_to(pg, S.RUNNING)

        assert [await cancel(pg, job_id) for _ in range(3)] == ["running"] * 3

        assert (await kinds(pg, job_id)).count("cancel_requested") == 1

    async def test_an_unknown_job_is_answered_with_nothing(self, pg: Connection) -> None:
        assert await cancel(pg, uuid4()) is None

    async def test_it_names_what_becomes_free(self, pg: Connection) -> None:
        (job_id,) = await enqueue(pg, job(lock_key="l", partition_key="p"))

        answer = await INTAKE.cancel(pg, job_id, actor=None)

        assert answer is not None
        assert (answer.job_id, answer.queue, answer.keys) == (job_id, "q", Keys(frozenset("l"), frozenset("p")))

    async def test_a_failed_head_in_the_way_of_its_partition_is_cleared_away(self, pg: Connection) -> None:
        await publish(pg, "t", policy="block")
        job_id = await bring_to(pg, S.FAILED, partition_key="p")
        (behind,) = await enqueue(pg, job(partition_key="p"))

        assert await cancel(pg, job_id) == "partition_released"
        await promote(pg, partitions="p")

        assert await look(pg, job_id, "status blocks_partition") == ("failed", False)
        assert (await row(pg, behind))["ready"]
        assert await cancel(pg, job_id) == "failed"

    async def test_plain_sql_wakes_the_worker_that_runs_the_job(self, pg: Connection, other: Connection) -> None:
        job_id = await bring_to(pg, S.RUNNING)
        payloads: asyncio.Queue[str] = asyncio.Queue()
        await other.add_listener("dl_public", lambda *told: payloads.put_nowait(str(told[-1])))

        await pg.fetch("select * from dl_cancel($1)", job_id)

        assert await asyncio.wait_for(payloads.get(), 5) == f"cancel:{job_id}"

    async def test_a_row_that_stays_locked_is_refused_for_now(self, pg: Connection, other: Connection) -> None:
        job_id = await bring_to(pg, S.QUEUED)
        await pg.execute("begin")
        await pg.fetch("select from dl_jobs for update")

        with pytest.raises(UnavailableError):
            await cancel(other, job_id)

    async def test_a_server_without_memory_or_locks_is_to_be_asked_again(self, pg: Connection) -> None:
        job_id = await bring_to(pg, S.QUEUED)
        await pg.execute(
            "create function pg_temp.refuse() returns trigger language plpgsql as"
            " $$ begin raise exception 'out of shared memory' using errcode = 'out_of_memory'; end $$;"
            "create trigger refuse before update on dl_jobs execute function pg_temp.refuse()"
        )

        try:
            with pytest.raises(UnavailableError, match="out of memory or locks"):
                await cancel(pg, job_id)
        finally:
            await pg.execute("drop trigger refuse on dl_jobs")


class TestRetry:
    @pytest.mark.parametrize("status", list(S))
    async def test_in_every_state(self, pg: Connection, status: JobStatus) -> None:
        job_id = await bring_to(pg, status)
        before, events = await row(pg, job_id), await kinds(pg, job_id)

        assert await retry(pg, job_id) == status

        if status in {S.FAILED, S.CANCELED, S.LOST}:
            assert await look(pg, job_id, "status ready attempt losses") == ("queued", True, 0, 0)
            assert await kinds(pg, job_id) == [*events, "retried"]
            assert (await last_event(pg, job_id))["data"] == {"from_start": False, "before": status.value}
        else:
            assert await row(pg, job_id) == before
            assert await kinds(pg, job_id) == events

    async def test_everything_counts_from_zero_and_the_epoch_goes_on(self, pg: Connection) -> None:
        lease = await running(pg, max_losses=1)
        await cancel(pg, lease.job_id)
        await expire(pg, lease.job_id)
        await reap(pg)
        await put(pg, lease.job_id, handovers=3, available_at=datetime(2020, 1, 1, tzinfo=UTC))

        await retry(pg, lease.job_id)

        stored = await row(pg, lease.job_id)
        names = ("attempt", "losses", "loss_epoch", "handovers", "cancel_requested", "finished_at")
        assert [stored[name] for name in names] == [0, 0, None, 0, False, None]
        assert abs(stored["available_at"] - datetime.now(UTC)) < timedelta(seconds=10)
        assert (await rerun(pg, lease.job_id)).epoch == lease.epoch + 1

    @pytest.mark.parametrize("from_start", [False, True])
    async def test_the_checkpoint_is_kept_unless_it_is_to_start_over(self, pg: Connection, from_start: bool) -> None:
        lease = await running(pg)
        await QUEUE.checkpoint(pg, lease, state={"day": 1}, progress={"done": 1})
        await settle(pg, lease, SettleKind.FAILED, error={"type": "E", "message": "m"})

        await retry(pg, lease.job_id, from_start=from_start)

        kept = await look(pg, lease.job_id, "checkpoint checkpoint_epoch progress")
        assert kept == ((None, None, None) if from_start else ('{"day": 1}', 1, '{"done": 1}'))
        assert (await row(pg, lease.job_id))["error"] is not None

    async def test_a_job_with_keys_waits_for_its_turn(self, pg: Connection) -> None:
        job_id = await bring_to(pg, S.FAILED, lock_key="l", partition_key="p")

        answer = await INTAKE.retry(pg, job_id, from_start=False, actor=None)

        assert answer is not None
        assert answer.keys == Keys(frozenset("l"), frozenset("p"))
        assert (await row(pg, job_id))["ready"] is False

    async def test_a_blocking_head_goes_back_to_the_head_of_its_partition(self, pg: Connection) -> None:
        await publish(pg, "t", policy="block")
        job_id = await bring_to(pg, S.FAILED, partition_key="p")
        await enqueue(pg, job(partition_key="p"))

        await retry(pg, job_id)
        await promote(pg, partitions="p")

        assert await look(pg, job_id, "ready blocks_partition") == (True, False)
        assert [one.lease.job_id for one in await claim(pg)] == [job_id]

    async def test_an_unknown_job_is_answered_with_nothing(self, pg: Connection) -> None:
        assert await retry(pg, uuid4()) is None

    @pytest.mark.parametrize(("fields", "payload"), [({}, "queue:q"), ({"lock_key": "l"}, "promote")])
    async def test_plain_sql_wakes_whom_it_concerns(
        self, pg: Connection, other: Connection, fields: dict[str, object], payload: str
    ) -> None:
        job_id = await bring_to(pg, S.FAILED, **fields)
        payloads: asyncio.Queue[str] = asyncio.Queue()
        await other.add_listener("dl_public", lambda *told: payloads.put_nowait(str(told[-1])))

        await pg.fetch("select * from dl_retry($1)", job_id)

        assert await asyncio.wait_for(payloads.get(), 5) == payload


class TestRaces:
    async def test_a_claim_beside_an_open_cancel_passes_the_job_over(self, pg: Connection, other: Connection) -> None:
        job_id = await bring_to(pg, S.QUEUED)
        transaction = other.transaction()
        await transaction.start()
        await cancel(other, job_id)

        assert await claim(pg) == []
        await transaction.commit()

        assert await claim(pg) == []
        assert await look(pg, job_id, "status epoch") == ("canceled", 0)

    @pytest.mark.parametrize("committed", [True, False])
    async def test_a_cancel_that_waited_for_a_claim_asks_the_run_to_stop_or_cancels_at_once(
        self, pg: Connection, other: Connection, committed: bool
    ) -> None:
        job_id = await bring_to(pg, S.QUEUED)
        transaction = other.transaction()
        await transaction.start()
        await claim(other)
        async with asyncio.TaskGroup() as group:
            late = group.create_task(cancel(pg, job_id))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await (transaction.commit if committed else transaction.rollback)()

        assert late.result() == ("running" if committed else "queued")
        assert await look(pg, job_id, "status cancel_requested") == ("running" if committed else "canceled", True)

    async def test_a_cancel_that_waited_for_a_retry_finds_the_job_queued(
        self, pg: Connection, other: Connection
    ) -> None:
        job_id = await bring_to(pg, S.FAILED)
        transaction = other.transaction()
        await transaction.start()
        await retry(other, job_id)
        async with asyncio.TaskGroup() as group:
            late = group.create_task(cancel(pg, job_id))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await transaction.commit()

        assert late.result() == "queued"
        assert await look(pg, job_id, "status") == ("canceled",)
        assert (await kinds(pg, job_id))[-2:] == ["retried", "canceled"]

    async def test_a_retry_that_waited_for_a_cancel_queues_the_job_again(
        self, pg: Connection, other: Connection
    ) -> None:
        job_id = await bring_to(pg, S.QUEUED)
        transaction = other.transaction()
        await transaction.start()
        await cancel(other, job_id)
        async with asyncio.TaskGroup() as group:
            late = group.create_task(retry(pg, job_id))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await transaction.commit()

        assert late.result() == "canceled"
        assert await look(pg, job_id, "status cancel_requested") == ("queued", False)

    async def test_two_retries_count_once(self, pg: Connection, other: Connection, connect_more: Connect) -> None:
        job_id = await bring_to(pg, S.FAILED)
        third = await connect_more()

        befores = await asyncio.gather(retry(other, job_id), retry(third, job_id))

        assert sorted(befores, key=str) == ["failed", "queued"]
        assert (await kinds(pg, job_id)).count("retried") == 1

    async def test_cancels_against_claims_never_start_a_canceled_job(
        self, pg: Connection, other: Connection, connect_more: Connect
    ) -> None:
        third = await connect_more()
        ids = await enqueue(pg, *[job() for _ in range(300)])

        async def cancel_all() -> list[str | None]:
            return [await cancel(other, job_id) for job_id in ids]

        async def claim_all() -> int:
            return sum([len(await claim(third, 3)) for _ in range(150)])

        befores, claimed = await asyncio.gather(cancel_all(), claim_all())

        assert befores.count("running") == claimed
        assert befores.count("queued") == len(ids) - claimed
        assert await pg.fetchval("select count(*) from dl_jobs where status = 'canceled' and epoch > 0") == 0
        assert await pg.fetchval("select count(*) from dl_jobs where status = 'running' and not cancel_requested") == 0
