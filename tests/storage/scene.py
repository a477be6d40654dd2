"""What the tests of the queue protocol do again and again: bring jobs into a state, look at them, wait for a block."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncpg

from dataloader.domain.jobs import ClaimedJob, Enqueued, Keys, Lease, NewJob
from dataloader.domain.outcomes import SettleKind, Settlement
from dataloader.storage.db import Connection
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.storage.repositories.presence import PresenceRepository, TaskEntry
from dataloader.storage.repositories.promotion import PromotionRepository
from dataloader.storage.repositories.queue import BEFORE_ALL, Claim, QueueRepository
from dataloader.storage.repositories.recovery import RecoveryRepository
from dataloader.storage.repositories.rows import Position, Reached, Released

SCHEMA = "public"
LEASE_S = 60.0
WORKER = uuid4()
ACTOR = "test"

INTAKE = IntakeRepository(SCHEMA)
QUEUE = QueueRepository(SCHEMA, lease_s=LEASE_S)
PROMOTION = PromotionRepository(SCHEMA)
RECOVERY = RecoveryRepository(SCHEMA)
PRESENCE = PresenceRepository(SCHEMA)

PATIENCE_S = 10.0

T = TypeVar("T")


def job(**fields: Any) -> NewJob:
    """Return a request for a job of task `t` on queue `q`."""
    return NewJob(**{"queue": "q", "task": "t"} | fields)


async def answers(pg: Connection, *jobs: NewJob) -> list[Enqueued]:
    """Enqueue jobs and return the answers."""
    return await INTAKE.enqueue(pg, jobs, actor=ACTOR)


async def enqueue(pg: Connection, *jobs: NewJob) -> list[UUID]:
    """Enqueue jobs and return their ids."""
    return [answer.job_id for answer in await answers(pg, *jobs)]


async def promote(pg: Connection, locks: str = "", partitions: str = "") -> None:
    """Offer what waits behind keys, given as words."""
    await PROMOTION.promote(pg, Keys(frozenset(locks.split()), frozenset(partitions.split())))


async def claim(
    pg: Connection,
    limit: int = 100,
    *,
    queue: str = "q",
    tasks: str = "t",
    idle: bool = False,
    worker_id: UUID = WORKER,
) -> list[ClaimedJob]:
    """Claim jobs; the process is busy unless `idle`."""
    wanted = Claim(queue, tasks.split(), limit, worker_id, idle)
    return await QUEUE.claim(pg, wanted, actor=f"worker:{worker_id}")


async def claim_after(
    pg: Connection, after: Position = BEFORE_ALL, limit: int = 100, *, idle: bool = False
) -> tuple[list[UUID], Reached]:
    """Claim jobs that come after a place; return them, and how far the claim came."""
    wanted = Claim("q", ("t",), limit, WORKER, idle, after)
    exchanged = await QUEUE.exchange(pg, (), wanted, actor=f"worker:{WORKER}")
    assert exchanged.reached
    return [one.lease.job_id for one in exchanged.claimed()], exchanged.reached


async def running(pg: Connection, **fields: Any) -> Lease:
    """Return the lease of a new job that runs."""
    (job_id,) = await enqueue(pg, job(**fields))
    await promote(pg, fields.get("lock_key", ""), fields.get("partition_key", ""))
    return await rerun(pg, job_id)


async def rerun(pg: Connection, job_id: UUID) -> Lease:
    """Make a queued job ready, claim it as an idle process does, and return the new lease."""
    await put(pg, job_id, ready=True)
    (claimed,) = await claim(pg, idle=True)
    assert claimed.lease.job_id == job_id
    return claimed.lease


async def put(pg: Connection, job_id: UUID, **columns: object) -> None:
    """Set columns of a job behind the protocol's back; None leaves a column alone."""
    given = {name: value for name, value in columns.items() if value is not None}
    if given:
        assignments = ", ".join(f"{name} = ${place}" for place, name in enumerate(given, start=2))
        await pg.execute(f"update dl_jobs set {assignments} where job_id = $1", job_id, *given.values())


async def settle(pg: Connection, lease: Lease, kind: SettleKind, **fields: Any) -> Released | None:
    """Settle one run; None means that the lease was gone, or that the row was locked at that moment."""
    released = await QUEUE.settle(pg, [Settlement(lease, kind, **fields)], actor=ACTOR)
    assert len(released) <= 1
    return released[0] if released else None


async def settle_surely(pg: Connection, lease: Lease, kind: SettleKind) -> Released:
    """Settle one run as workers do, again while its row is locked: a claim that came late holds it until its end."""

    async def settled() -> Released | None:
        return await settle(pg, lease, kind)

    released = await until(settled)
    assert released is not None
    return released


async def expire(pg: Connection, *job_ids: UUID) -> None:
    """Let leases run out."""
    await pg.execute(
        "update dl_jobs set lease_expires_at = clock_timestamp() - interval '1 second' where job_id = any($1)", job_ids
    )


async def reap(pg: Connection, *, grace_s: float = 0.0) -> list[Released]:
    """Take back expired leases."""
    return await RECOVERY.reap(pg, await RECOVERY.server_time(pg), grace_s=grace_s, actor="reaper:test")


async def row(pg: Connection, job_id: UUID) -> asyncpg.Record:
    """Return a job's row."""
    found = await pg.fetchrow("select * from dl_jobs where job_id = $1", job_id)
    assert found is not None
    return found


async def look(pg: Connection, job_id: UUID, columns: str) -> tuple[object, ...]:
    """Return some columns of a job, given as words."""
    found = await row(pg, job_id)
    return tuple(found[name] for name in columns.split())


async def kinds(pg: Connection, job_id: UUID) -> list[str]:
    """Return the kinds of a job's events in order."""
    rows = await pg.fetch("select kind from dl_job_events where job_id = $1 order by event_id", job_id)
    return [found["kind"] for found in rows]


async def last_event(pg: Connection, job_id: UUID) -> dict[str, Any]:
    """Return a job's last event with its data parsed."""
    found = await pg.fetchrow("select * from dl_job_events where job_id = $1 order by event_id desc limit 1", job_id)
    assert found is not None
    return dict(found) | {"data": json.loads(found["data"])}


async def publish(pg: Connection, task: str = "t", *, policy: str = "skip", **options: object) -> None:
    """Publish a task as workers do."""
    entry = TaskEntry(task, None, "doc", None, options, policy)
    await PRESENCE.publish(pg, [entry])


async def alive(
    pg: Connection, *queues: str, tasks: str = "t blocking", stopping: bool = False, for_s: float = 60
) -> UUID:
    """Let a worker that serves queues say that it lives."""
    worker_id = uuid4()
    await pg.execute(
        "insert into dl_workers (worker_id, host, pid, version, queues, tasks, takes, stopping, expires_at)"
        " values ($1, 'h', 1, 'v', $2, $3, $4, $5, clock_timestamp() + make_interval(secs => $6))",
        worker_id, json.dumps(dict.fromkeys(queues, 1)), tasks.split(),
        json.dumps(dict.fromkeys(queues, tasks.split())), stopping, for_s,
    )  # fmt: skip
    return worker_id


async def pause(pg: Connection, queue: str) -> None:
    """Pause a queue."""
    await pg.execute(
        "insert into dl_queues (queue, paused_at) values ($1, now())"
        " on conflict (queue) do update set paused_at = now()",
        queue,
    )


async def resume(pg: Connection, queue: str) -> None:
    """Open a queue."""
    await pg.execute("update dl_queues set paused_at = null where queue = $1", queue)


async def until(condition: Callable[[], Awaitable[T]], *, within_s: float = PATIENCE_S) -> T:
    """Return the first true answer of `condition`."""
    async with asyncio.timeout(within_s):
        while not (answer := await condition()):
            await asyncio.sleep(0.005)
        return answer


async def ready(pg: Connection) -> list[UUID]:
    """Return the jobs that are offered, in the order of their acknowledgement."""
    return [found["job_id"] for found in await pg.fetch("select job_id from dl_jobs where ready order by seq")]


async def blocked(pg: Connection, session: Connection) -> None:
    """Wait until a session waits for a lock that another one holds."""
    pid = session.get_server_pid()
    await until(lambda: pg.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid))


def as_json(text: str | None) -> Mapping[str, Any] | None:
    """Parse a JSON column."""
    return None if text is None else json.loads(text)
