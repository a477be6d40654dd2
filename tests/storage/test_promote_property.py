"""Promotion under any order of events: never two turns, never out of order, and no eligible key waits for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.domain.jobs import Keys, Lease
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.scene import (
    INTAKE,
    PROMOTION,
    alive,
    claim,
    enqueue,
    expire,
    job,
    pause,
    publish,
    reap,
    resume,
    settle,
)

LOCKS, PARTITIONS, QUEUES = ("l1", "l2"), ("p1", "p2"), ("q", "r")

_KEYS = st.tuples(st.sampled_from([None, *LOCKS]), st.sampled_from([None, *PARTITIONS]))
_ENQUEUE = st.tuples(
    st.just("enqueue"), _KEYS, st.sampled_from(QUEUES), st.integers(1, 3), st.sampled_from(["t", "blocking"])
)
_EVENTS = st.one_of(
    _ENQUEUE,
    _ENQUEUE,
    st.tuples(st.just("promote"), st.sets(st.sampled_from(LOCKS)), st.sets(st.sampled_from(PARTITIONS))),
    st.tuples(st.just("claim"), st.sampled_from(QUEUES), st.integers(1, 3)),
    st.tuples(st.just("claim"), st.sampled_from(QUEUES), st.integers(1, 3)),
    st.tuples(st.just("settle"), st.integers(0, 20), st.sampled_from(SettleKind), st.sampled_from([0.0, 3_600.0])),
    st.tuples(st.just("settle"), st.integers(0, 20), st.just(SettleKind.SUCCEEDED), st.just(0.0)),
    st.tuples(st.just("reap"), st.integers(0, 20)),
    st.tuples(st.just("cancel"), st.integers(0, 20)),
    st.tuples(st.just("retry"), st.integers(0, 20)),
    st.tuples(st.just("pause"), st.sampled_from(QUEUES)),
    st.tuples(st.just("resume"), st.sampled_from(QUEUES)),
    st.tuples(st.just("alive"), st.sampled_from(QUEUES)),
    st.tuples(st.just("no worker")),
    st.tuples(st.just("age")),
)

_TURNS = """
select 'lock ' || lock_key as what, count(*) from dl_jobs where lock_key is not null and (ready or status = 'running')
 group by lock_key having count(*) > 1
union all
select 'partition ' || partition_key, count(*) from dl_jobs
 where partition_key is not null and (ready or status = 'running')
 group by partition_key having count(*) > 1
"""

# Jobs that could be offered now: everything the rules ask, spelled in the most naive way.
_ELIGIBLE = """
select j.job_id from dl_jobs j
 where j.status = 'queued' and not j.ready and j.hold_reason is null and j.available_at <= clock_timestamp()
   and (j.lock_key is not null or j.partition_key is not null)
   and j.queue not in (select queue from dl_queues where paused_at is not null)
   and not exists (select from dl_jobs t where t.lock_key = j.lock_key and (t.ready or t.status = 'running'))
   and not exists (select from dl_jobs t where t.partition_key = j.partition_key and (t.ready or t.status = 'running'))
   and not exists (select from dl_jobs h where h.partition_key = j.partition_key and h.seq < j.seq
                      and (h.status = 'queued' or h.blocks_partition))
"""


@dataclass
class World:
    """One database, one session, and what a fleet of workers would remember."""

    pg: Connection
    jobs: list[UUID]
    leases: list[Lease]

    async def happen(self, event: tuple[Any, ...]) -> None:
        """Let one thing happen."""
        match event:
            case ("enqueue", (lock, partition), queue, priority, task):
                new = job(lock_key=lock, partition_key=partition, queue=queue, priority=priority, task=task)
                self.jobs += await enqueue(self.pg, new)
            case ("promote", locks, partitions):
                await self.promote(Keys(frozenset(locks), frozenset(partitions)))
            case ("claim", queue, limit):
                claimed = await claim(self.pg, limit, queue=queue, tasks="t blocking", idle=True)
                self.leases += [one.lease for one in claimed]
            case ("settle", place, kind, delay_s) if self.leases:
                await settle(self.pg, self.leases.pop(place % len(self.leases)), kind, delay_s=delay_s)
            case ("reap", place) if self.leases:
                await expire(self.pg, self.leases.pop(place % len(self.leases)).job_id)
                await reap(self.pg)
            case ("cancel", place) if self.jobs:
                await INTAKE.cancel(self.pg, self.jobs[place % len(self.jobs)], actor=None)
            case ("retry", place) if self.jobs:
                await INTAKE.retry(self.pg, self.jobs[place % len(self.jobs)], from_start=False, actor=None)
            case ("pause", queue):
                await pause(self.pg, queue)
            case ("resume", queue):
                await resume(self.pg, queue)
            case ("alive", queue):
                await alive(self.pg, queue)
            case ("no worker",):
                await self.pg.execute("delete from dl_workers")
            case ("age",):
                await self.pg.execute("update dl_jobs set offered_at = offered_at - interval '3 seconds' where ready")

    async def promote(self, keys: Keys) -> None:
        """Promote, and hold every new offer against the naive rules."""
        was_ready = await self.ids("select job_id from dl_jobs where ready")
        await self.pg.execute("savepoint before")
        await self.pg.execute(
            "update dl_jobs set ready = false where ready and offered_at < clock_timestamp() - interval '2 seconds'"
        )
        could = await self.ids(_ELIGIBLE)
        await self.pg.execute("rollback to savepoint before")
        await PROMOTION.promote(self.pg, keys)
        offered = await self.ids("select job_id from dl_jobs where ready and offered_at is not null") - was_ready
        assert offered <= could

    async def ids(self, query: str) -> set[UUID]:
        """Return the job ids a query finds."""
        return {row["job_id"] for row in await self.pg.fetch(query)}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(events=st.lists(_EVENTS, min_size=5, max_size=30))
async def test_turns_are_single_ordered_and_never_forgotten(pg: Connection, events: list[tuple[Any, ...]]) -> None:
    transaction = pg.transaction()
    await transaction.start()
    try:
        await publish(pg, "blocking", policy="block")
        world = World(pg, [], [])
        for event in events:
            await world.happen(event)
            assert await pg.fetch(_TURNS) == []

        await world.promote(Keys(frozenset(LOCKS), frozenset(PARTITIONS)))
        assert await pg.fetch(_TURNS) == []
        assert await world.ids(_ELIGIBLE) == set()
    finally:
        await transaction.rollback()
