"""Promotion: whose turn it is, decided once, under the key's lock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dataloader.domain.jobs import Keys
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from dataloader.storage.repositories.promotion import KEYS_PER_TRANSACTION
from tests.storage.scene import (
    INTAKE,
    PROMOTION,
    alive,
    claim,
    enqueue,
    job,
    look,
    pause,
    promote,
    put,
    ready,
    resume,
    row,
    settle,
)

LATER = timedelta(hours=1)


async def let_offers_age(pg: Connection) -> None:
    """Make every offer older than an offer may become."""
    await pg.execute("update dl_jobs set offered_at = offered_at - interval '3 seconds' where ready")


class TestDueJobs:
    async def test_a_delayed_job_becomes_ready_when_it_is_due(self, pg: Connection) -> None:
        (job_id,) = await enqueue(pg, job(available_at=datetime.now(UTC) + LATER))
        assert await PROMOTION.promote_due(pg) == {}

        await put(pg, job_id, available_at=datetime.now(UTC))

        assert await PROMOTION.promote_due(pg) == {"q": 1}
        assert await ready(pg) == [job_id]

    async def test_the_answer_counts_by_queue(self, pg: Connection) -> None:
        await enqueue(pg, job(), job(), job(queue="other"))
        await pg.execute("update dl_jobs set ready = false")

        assert await PROMOTION.promote_due(pg) == {"q": 2, "other": 1}

    async def test_what_is_held_or_has_keys_is_left_alone(self, pg: Connection) -> None:
        held, _ = await enqueue(pg, job(), job(lock_key="l"))
        await put(pg, held, ready=False, hold_reason="waits for its parents")

        assert await PROMOTION.promote_due(pg) == {}
        assert await PROMOTION.keys_due(pg, window_s=60) == Keys(frozenset({"l"}))

    async def test_rows_that_others_have_locked_are_not_waited_for(self, pg: Connection, other: Connection) -> None:
        await enqueue(pg, job())
        await pg.execute("update dl_jobs set ready = false")
        await other.execute("begin; select from dl_jobs for update")

        assert await PROMOTION.promote_due(pg) == {}


class TestLockKeys:
    async def test_one_job_of_a_key_is_offered_at_a_time(self, pg: Connection) -> None:
        first, second = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))

        await promote(pg, "l")
        assert await ready(pg) == [first]
        (claimed,) = await claim(pg)
        await promote(pg, "l")
        assert await ready(pg) == []
        await settle(pg, claimed.lease, SettleKind.SUCCEEDED)
        await promote(pg, "l")
        assert await ready(pg) == [second]

    async def test_the_order_behind_a_key_is_priority_then_due_time_then_age(self, pg: Connection) -> None:
        ids = await enqueue(
            pg,
            job(lock_key="l"),
            job(lock_key="l", available_at=datetime(2020, 1, 1, tzinfo=UTC)),
            job(lock_key="l", priority=1),
            job(lock_key="l", priority=1, available_at=datetime.now(UTC) + LATER),
        )
        order = []
        for _ in range(3):
            await promote(pg, "l")
            (claimed,) = await claim(pg)
            order.append(claimed.lease.job_id)
            await settle(pg, claimed.lease, SettleKind.SUCCEEDED)

        assert order == [ids[2], ids[1], ids[0]]

    async def test_waiting_for_a_key_costs_no_attempt_and_no_delay(self, pg: Connection) -> None:
        _, waiting = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))
        before = await look(pg, waiting, "attempt epoch available_at")
        await promote(pg, "l")
        await claim(pg)
        for _ in range(5):
            await promote(pg, "l")

        assert await look(pg, waiting, "attempt epoch available_at") == before

    async def test_a_retry_in_its_pause_does_not_hold_the_key(self, pg: Connection) -> None:
        _, second = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))
        await promote(pg, "l")
        (claimed,) = await claim(pg)
        await settle(pg, claimed.lease, SettleKind.RETRY, delay_s=60.0)

        await promote(pg, "l")

        assert await ready(pg) == [second]

    async def test_different_keys_do_not_wait_for_each_other(self, pg: Connection) -> None:
        ids = await enqueue(pg, job(lock_key="a"), job(lock_key="b"), job(lock_key="b"))

        assert await PROMOTION.promote(pg, Keys(frozenset({"a", "b", "unknown"}))) == {"q": 2}
        assert await ready(pg) == ids[:2]

    async def test_keys_whose_32_bit_hashes_are_equal_do_not_wait_for_each_other(
        self, pg: Connection, other: Connection
    ) -> None:
        """F08: an unlucky pair must not exclude each other."""
        pair = await pg.fetchrow(
            "with h as (select n, hashtext('k' || n) as hash from generate_series(1, 300000) n)"
            " select min(n) as a, max(n) as b from h group by hash having count(*) > 1 limit 1"
        )
        assert pair is not None
        a, b = (f"k{pair[name]}" for name in "ab")
        _, second = await enqueue(pg, job(lock_key=a), job(lock_key=b))
        transaction = other.transaction()
        await transaction.start()
        await promote(other, a)

        await promote(pg, b)
        assert await ready(pg) == [second]
        await transaction.commit()

    async def test_more_keys_than_one_transaction_takes_are_all_served(self, pg: Connection) -> None:
        names = [f"k{n}" for n in range(2 * KEYS_PER_TRANSACTION + 1)]
        await enqueue(pg, *[job(lock_key=name, partition_key=name[::-1]) for name in names])

        offered = await PROMOTION.promote(pg, Keys(frozenset(names), frozenset(name[::-1] for name in names)))

        assert offered == {"q": len(names)}

    async def test_nothing_to_offer_is_no_error(self, pg: Connection) -> None:
        assert await PROMOTION.promote(pg, Keys()) == {}
        assert await PROMOTION.promote(pg, Keys(frozenset({"nobody"}), frozenset({"no"}))) == {}


class TestPartitions:
    async def test_jobs_run_in_the_order_of_their_acknowledgement_whatever_their_priority(self, pg: Connection) -> None:
        ids = await enqueue(
            pg,
            job(partition_key="p", priority=9),
            job(partition_key="p", priority=5),
            job(partition_key="p", priority=1, available_at=datetime(2020, 1, 1, tzinfo=UTC)),
        )
        order = []
        for _ in ids:
            await promote(pg, partitions="p")
            (claimed,) = await claim(pg)
            order.append(claimed.lease.job_id)
            await settle(pg, claimed.lease, SettleKind.SUCCEEDED)

        assert order == ids

    @pytest.mark.parametrize("state", ["not due", "held", "in a paused queue", "in its pause before a retry"])
    async def test_a_head_that_waits_blocks_those_behind_it(self, pg: Connection, state: str) -> None:
        head, behind = await enqueue(pg, job(partition_key="p", queue="head"), job(partition_key="p"))
        match state:
            case "not due":
                await put(pg, head, available_at=datetime.now(UTC) + LATER)
            case "held":
                await put(pg, head, hold_reason="waits")
            case "in a paused queue":
                await pause(pg, "head")
            case _:
                await promote(pg, partitions="p")
                (claimed,) = await claim(pg, queue="head")
                await settle(pg, claimed.lease, SettleKind.RETRY, delay_s=60.0)

        await promote(pg, partitions="p")
        assert await ready(pg) == []
        await INTAKE.cancel(pg, head, actor=None)
        await promote(pg, partitions="p")
        assert await ready(pg) == [behind]

    async def test_a_running_job_holds_its_partition(self, pg: Connection) -> None:
        await enqueue(pg, job(partition_key="p"), job(partition_key="p"))
        await promote(pg, partitions="p")
        await claim(pg)

        await promote(pg, partitions="p")

        assert await ready(pg) == []

    async def test_an_earlier_job_that_is_retried_waits_for_the_running_one_and_comes_next(
        self, pg: Connection
    ) -> None:
        first, _, third = await enqueue(pg, *[job(partition_key="p") for _ in range(3)])
        await promote(pg, partitions="p")
        (claimed,) = await claim(pg)
        await settle(pg, claimed.lease, SettleKind.FAILED)
        await promote(pg, partitions="p")
        (claimed,) = await claim(pg)
        await INTAKE.retry(pg, first, from_start=False, actor=None)
        await promote(pg, partitions="p")
        assert await ready(pg) == []
        await settle(pg, claimed.lease, SettleKind.SUCCEEDED)

        await promote(pg, partitions="p")

        assert await ready(pg) == [first]
        assert (await row(pg, third))["ready"] is False


class TestBothKeys:
    @pytest.mark.parametrize("ask", [("l", ""), ("", "p"), ("l", "p")])
    async def test_a_job_with_both_is_offered_when_both_are_free(self, pg: Connection, ask: tuple[str, str]) -> None:
        ids = await enqueue(pg, job(lock_key="l", partition_key="p"))

        await promote(pg, *ask)

        assert await ready(pg) == ids

    @pytest.mark.parametrize("ask", [("l", ""), ("", "p"), ("l", "p")])
    async def test_it_waits_while_its_lock_is_held_by_another(self, pg: Connection, ask: tuple[str, str]) -> None:
        await enqueue(pg, job(lock_key="l"))
        await promote(pg, "l")
        await claim(pg)
        await enqueue(pg, job(lock_key="l", partition_key="p"))

        await promote(pg, *ask)

        assert await ready(pg) == []

    @pytest.mark.parametrize("ask", [("l", ""), ("", "p"), ("l", "p")])
    async def test_it_does_not_keep_its_lock_from_others_while_its_partition_is_held(
        self, pg: Connection, ask: tuple[str, str]
    ) -> None:
        await enqueue(pg, job(partition_key="p"))
        await promote(pg, partitions="p")
        await claim(pg)
        _, free = await enqueue(pg, job(lock_key="l", partition_key="p"), job(lock_key="l"))

        await promote(pg, *ask)

        assert await ready(pg) == [free]

    async def test_two_heads_that_need_the_same_lock_take_turns(self, pg: Connection) -> None:
        first, second = await enqueue(
            pg, job(lock_key="l", partition_key="a", priority=2), job(lock_key="l", partition_key="b", priority=1)
        )

        await promote(pg, partitions="a b")
        assert await ready(pg) == [second]
        (claimed,) = await claim(pg)
        await settle(pg, claimed.lease, SettleKind.SUCCEEDED)
        await promote(pg, partitions="a b")
        assert await ready(pg) == [first]

    async def test_the_second_key_is_only_tried_so_that_nobody_waits_in_a_circle(
        self, pg: Connection, other: Connection
    ) -> None:
        await enqueue(pg, job(lock_key="l", partition_key="p"))
        await other.execute("begin; select * from dl_promote('{}', '{p}'); update dl_jobs set ready = false")
        await other.execute("rollback; begin; select pg_advisory_xact_lock(hashtextextended('public.p', 2))")

        await promote(pg, "l")
        assert await ready(pg) == []
        await other.execute("rollback")
        await promote(pg, "l")
        assert len(await ready(pg)) == 1


class TestOffersNobodyTakes:
    @pytest.mark.parametrize("who", ["other queue", "other task", "stopping", "gone"])
    async def test_an_old_offer_that_no_live_worker_can_take_gives_way_to_one_that_can_be_taken(
        self, pg: Connection, who: str
    ) -> None:
        first, second = await enqueue(pg, job(lock_key="l", task="first", priority=1), job(lock_key="l", queue="r"))
        await promote(pg, "l")
        assert await ready(pg) == [first]
        await alive(pg, "r")
        match who:
            case "other task":
                await alive(pg, "q")
            case "stopping":
                await alive(pg, "q", tasks="first", stopping=True)
            case "gone":
                await alive(pg, "q", tasks="first", for_s=-1)
        await promote(pg, "l")
        assert await ready(pg) == [first]

        await let_offers_age(pg)
        await promote(pg, "l")

        assert await ready(pg) == [second]
        assert await look(pg, first, "status attempt") == ("queued", 0)

    async def test_a_queue_without_a_worker_comes_last_until_it_has_one(self, pg: Connection) -> None:
        unserved, served = await enqueue(pg, job(lock_key="l", queue="r", priority=1), job(lock_key="l", priority=9))
        await alive(pg, "q")
        await promote(pg, "l")
        assert await ready(pg) == [served]
        await pg.execute("update dl_jobs set ready = false")

        await alive(pg, "r")
        await promote(pg, "l")

        assert await ready(pg) == [unserved]

    async def test_what_nobody_serves_is_offered_when_nothing_else_waits(self, pg: Connection) -> None:
        (unserved,) = await enqueue(pg, job(lock_key="l", queue="r"))
        await alive(pg, "q")

        await promote(pg, "l")

        assert await ready(pg) == [unserved]

    async def test_an_offer_that_nobody_serves_stands_beside_others_that_nobody_serves(self, pg: Connection) -> None:
        (first,) = await enqueue(pg, job(lock_key="l", queue="r"))
        await alive(pg, "q")
        await promote(pg, "l")
        await enqueue(pg, job(lock_key="l", queue="s", priority=1))
        await let_offers_age(pg)

        await promote(pg, "l")

        assert await ready(pg) == [first]

    @pytest.mark.parametrize("fleet", ["busy", "none"])
    async def test_an_offer_whose_workers_are_busy_stands_so_that_fresh_jobs_cannot_overtake_it(
        self, pg: Connection, fleet: str
    ) -> None:
        if fleet == "busy":
            await alive(pg, "q", "r")
        (first,) = await enqueue(pg, job(lock_key="l"))
        await promote(pg, "l")

        for _ in range(5):
            await enqueue(pg, job(lock_key="l"), job(lock_key="l", queue="r", priority=1))
            await let_offers_age(pg)
            await promote(pg, "l")
            assert await ready(pg) == [first]

    async def test_an_offer_in_a_queue_that_was_paused_beside_it_gives_way(self, pg: Connection) -> None:
        _, second = await enqueue(pg, job(lock_key="l"), job(lock_key="l", queue="r"))
        await alive(pg, "q", "r")
        await promote(pg, "l")
        await pause(pg, "q")
        await let_offers_age(pg)

        await promote(pg, "l")

        assert await ready(pg) == [second]

    async def test_an_offer_without_a_rival_stands(self, pg: Connection) -> None:
        (only,) = await enqueue(pg, job(lock_key="l"))
        await promote(pg, "l")
        await let_offers_age(pg)

        await promote(pg, "l")

        assert await ready(pg) == [only]

    @pytest.mark.parametrize("rival", ["not due", "held", "in a paused queue", "behind in its partition"])
    async def test_a_rival_that_could_not_run_leaves_the_offer_where_it_is(self, pg: Connection, rival: str) -> None:
        offered, other_job = await enqueue(pg, job(lock_key="l"), job(lock_key="l", queue="rival"))
        match rival:
            case "not due":
                await put(pg, other_job, available_at=datetime.now(UTC) + LATER)
            case "held":
                await put(pg, other_job, hold_reason="waits")
            case "in a paused queue":
                await pause(pg, "rival")
            case _:
                await enqueue(pg, job(partition_key="p"))
                await promote(pg, partitions="p")
                await pg.execute("update dl_jobs set partition_key = 'p' where job_id = $1", other_job)
        await promote(pg, "l")
        assert offered in await ready(pg)
        await let_offers_age(pg)

        for _ in range(3):
            await promote(pg, "l")

        assert offered in await ready(pg)

    async def test_a_candidate_in_a_paused_queue_does_not_hold_the_key(self, pg: Connection) -> None:
        paused, free = await enqueue(pg, job(lock_key="l", queue="paused"), job(lock_key="l"))
        await pause(pg, "paused")

        await promote(pg, "l")
        assert await ready(pg) == [free]
        (claimed,) = await claim(pg)
        await settle(pg, claimed.lease, SettleKind.SUCCEEDED)
        await promote(pg, "l")
        assert await ready(pg) == []
        await resume(pg, "paused")
        await promote(pg, "l")
        assert await ready(pg) == [paused]

    async def test_an_offer_that_is_being_claimed_is_not_withdrawn(self, pg: Connection, other: Connection) -> None:
        first, _ = await enqueue(pg, job(lock_key="l"), job(lock_key="l"))
        await promote(pg, "l")
        await let_offers_age(pg)
        await alive(pg, "r")
        await enqueue(pg, job(lock_key="l", queue="r"))
        transaction = other.transaction()
        await transaction.start()
        assert len(await claim(other)) == 1

        await promote(pg, "l")
        await transaction.commit()

        assert await ready(pg) == []
        assert await look(pg, first, "status") == ("running",)
