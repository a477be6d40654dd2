"""Heartbeat and checkpoint: leases are renewed together, and a chunk commits only behind its fence."""

from __future__ import annotations

import asyncio

from dataloader.domain.jobs import Lease
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from dataloader.storage.repositories.rows import Beat, Verdict
from tests.storage.scene import (
    INTAKE,
    LEASE_S,
    QUEUE,
    as_json,
    blocked,
    expire,
    kinds,
    last_event,
    look,
    reap,
    rerun,
    row,
    running,
    settle,
    until,
)


async def lease_left_s(pg: Connection, lease: Lease) -> float:
    """Return how long a lease still lasts."""
    left = await pg.fetchval(
        "select extract(epoch from lease_expires_at - clock_timestamp())::float8 from dl_jobs where job_id = $1",
        lease.job_id,
    )
    return float(left)


async def test_a_beat_renews_every_lease_and_tells_who_was_asked_to_stop(pg: Connection) -> None:
    leases = [await running(pg) for _ in range(3)]
    await expire(pg, *[lease.job_id for lease in leases])
    await INTAKE.cancel(pg, leases[1].job_id, actor=None)

    beats = await QUEUE.heartbeat(pg, {leases[0]: {"done": 1}, leases[1]: None, leases[2]: None})

    assert sorted(beats, key=lambda beat: leases.index(beat.lease)) == [
        Beat(leases[0], Verdict.OK, False),
        Beat(leases[1], Verdict.OK, True),
        Beat(leases[2], Verdict.OK, False),
    ]
    assert all([LEASE_S - 5 < await lease_left_s(pg, lease) <= LEASE_S for lease in leases])


async def test_a_beat_saves_progress_where_it_brings_some(pg: Connection) -> None:
    lease = await running(pg)

    await QUEUE.heartbeat(pg, {lease: {"done": 1}})
    await QUEUE.heartbeat(pg, {lease: None})

    assert as_json((await row(pg, lease.job_id))["progress"]) == {"done": 1}


async def test_a_lease_of_an_older_claim_is_lost(pg: Connection) -> None:
    old = await running(pg)
    await settle(pg, old, SettleKind.HANDED_OVER)
    new = await rerun(pg, old.job_id)

    beats = await QUEUE.heartbeat(pg, {old: {"zombie": 1}, new: None})

    assert {beat.lease: beat.verdict for beat in beats} == {old: Verdict.LOST, new: Verdict.OK}
    assert (await row(pg, old.job_id))["progress"] is None


async def test_a_job_that_is_gone_is_lost(pg: Connection) -> None:
    lease = await running(pg)
    await pg.execute("delete from dl_jobs")

    assert await QUEUE.heartbeat(pg, {lease: None}) == [Beat(lease, Verdict.LOST, False)]
    assert await QUEUE.heartbeat(pg, {}) == []


async def test_a_row_that_its_own_chunk_holds_is_busy_and_is_not_waited_for(pg: Connection, other: Connection) -> None:
    held, free = await running(pg), await running(pg)
    transaction = other.transaction()
    await transaction.start()
    assert await QUEUE.checkpoint(other, held, state={"at": 1}, progress=None) is False

    beats = await QUEUE.heartbeat(pg, {held: None, free: None})
    await transaction.commit()

    assert {beat.lease: beat.verdict for beat in beats} == {held: Verdict.BUSY, free: Verdict.OK}


async def test_a_busy_beat_still_hears_of_a_cancel(pg: Connection, other: Connection) -> None:
    lease = await running(pg)
    await INTAKE.cancel(pg, lease.job_id, actor=None)
    transaction = other.transaction()
    await transaction.start()
    await other.fetch("select from dl_jobs for no key update")

    assert await QUEUE.heartbeat(pg, {lease: None}) == [Beat(lease, Verdict.BUSY, True)]

    await transaction.rollback()


async def test_renewals_touch_no_index(pg: Connection, other: Connection) -> None:
    """Leases are renewed every few seconds: were a column of theirs in an index, each would write to all indexes."""
    leases = [await running(pg) for _ in range(10)]
    count = "select n_tup_upd, n_tup_hot_upd from pg_stat_user_tables where relname = 'dl_jobs'"
    await pg.execute("select pg_stat_force_next_flush()")
    before = await other.fetchrow(count)

    for lease in leases:
        await QUEUE.heartbeat(pg, {lease: {"done": 1}})
        await QUEUE.checkpoint(pg, lease, state={"at": 1}, progress={"done": 2})
    await pg.execute("select pg_stat_force_next_flush()")

    async def counted() -> bool:
        after = await other.fetchrow(count)
        return bool(before and after and after["n_tup_upd"] - before["n_tup_upd"] == 2 * len(leases))

    await until(counted)
    after = await other.fetchrow(count)
    assert before is not None
    assert after is not None
    # Not all of them: a page that is full sends a row elsewhere.
    assert after["n_tup_hot_upd"] - before["n_tup_hot_upd"] > len(leases)


class TestCheckpoint:
    """The last statement of a chunk: fence, checkpoint, progress, lease and the question "cancel?" in one."""

    async def test_it_saves_what_it_is_given_and_extends_the_lease(self, pg: Connection) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)

        assert await QUEUE.checkpoint(pg, lease, state={"day": 1}, progress={"done": 1}) is False

        stored = await row(pg, lease.job_id)
        assert (as_json(stored["checkpoint"]), as_json(stored["progress"])) == ({"day": 1}, {"done": 1})
        assert stored["checkpoint_epoch"] == lease.epoch
        assert LEASE_S - 5 < await lease_left_s(pg, lease) <= LEASE_S

    async def test_without_a_state_it_only_fences_and_reports(self, pg: Connection) -> None:
        lease = await running(pg)
        await QUEUE.checkpoint(pg, lease, state={"day": 1}, progress={"done": 1})
        await settle(pg, lease, SettleKind.HANDED_OVER)
        lease = await rerun(pg, lease.job_id)

        assert await QUEUE.checkpoint(pg, lease, state=None, progress=None) is False

        stored = await row(pg, lease.job_id)
        assert (as_json(stored["checkpoint"]), as_json(stored["progress"])) == ({"day": 1}, {"done": 1})
        assert stored["checkpoint_epoch"] == 1

    async def test_it_tells_that_the_job_was_asked_to_stop(self, pg: Connection) -> None:
        lease = await running(pg)
        await INTAKE.cancel(pg, lease.job_id, actor=None)

        assert await QUEUE.checkpoint(pg, lease, state={"day": 1}, progress=None) is True

    async def test_another_epoch_saves_nothing(self, pg: Connection) -> None:
        lease = await running(pg)
        before = await row(pg, lease.job_id)

        assert await QUEUE.checkpoint(pg, Lease(lease.job_id, lease.epoch + 1), state={"x": 1}, progress=None) is None
        assert await QUEUE.checkpoint(pg, Lease(lease.job_id, lease.epoch - 1), state={"x": 1}, progress=None) is None

        assert await row(pg, lease.job_id) == before

    async def test_only_the_first_of_each_run_is_an_event(self, pg: Connection) -> None:
        lease = await running(pg)
        for day in range(3):
            await QUEUE.checkpoint(pg, lease, state={"day": day}, progress=None)
        await settle(pg, lease, SettleKind.HANDED_OVER)
        lease = await rerun(pg, lease.job_id)
        for day in range(3, 6):
            await QUEUE.checkpoint(pg, lease, state={"day": day}, progress=None)

        assert [kind for kind in await kinds(pg, lease.job_id) if kind == "checkpoint"] == ["checkpoint"] * 2
        event = await last_event(pg, lease.job_id)
        assert (event["kind"], event["data"], event["epoch"]) == ("checkpoint", {"checkpoint": {"day": 3}}, 2)

    async def test_the_chunk_and_its_checkpoint_roll_back_together(self, pg: Connection) -> None:
        lease = await running(pg)
        await pg.execute("create table target (n int)")
        transaction = pg.transaction()
        await transaction.start()
        await pg.execute("insert into target values (1)")
        await QUEUE.checkpoint(pg, lease, state={"day": 1}, progress=None)
        await transaction.rollback()

        assert await pg.fetchval("select count(*) from target") == 0
        assert await look(pg, lease.job_id, "checkpoint checkpoint_epoch") == (None, None)
        assert await kinds(pg, lease.job_id) == ["created", "claimed"]

    async def test_a_fence_that_waited_for_the_reaper_finds_its_lease_gone(
        self, pg: Connection, other: Connection
    ) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        assert len(await reap(other)) == 1
        async with asyncio.TaskGroup() as group:
            fence = group.create_task(QUEUE.checkpoint(pg, lease, state={"zombie": 1}, progress=None))
            await asyncio.sleep(0)
            await blocked(other, pg)
            await transaction.commit()

        assert fence.result() is None
        assert await look(pg, lease.job_id, "checkpoint status") == (None, "queued")

    async def test_a_fence_that_came_first_keeps_the_reaper_away(self, pg: Connection, other: Connection) -> None:
        lease = await running(pg)
        await expire(pg, lease.job_id)
        transaction = other.transaction()
        await transaction.start()
        assert await QUEUE.checkpoint(other, lease, state={"day": 1}, progress=None) is False

        assert await reap(pg) == []
        await transaction.commit()

        assert await reap(pg) == []
        assert await look(pg, lease.job_id, "status losses") == ("running", 0)
