"""Where two sessions meet, and the moves they make; each says in a few words what it found."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID, uuid4

from dataloader.domain.jobs import Enqueued, Keys, Lease
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.scene import (
    ACTOR,
    INTAKE,
    PROMOTION,
    QUEUE,
    answers,
    claim,
    enqueue,
    expire,
    job,
    promote,
    reap,
    running,
    settle,
)

NOTHING = "nothing"
NO_KEYS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Stage:
    """What the sessions find.

    Attributes:
        job_ids: The jobs there are, in the order of their acknowledgement.
        lease: Of the first job's run; it may be gone.
        keys: Keys that may get free.
        answered: Answers to what is enqueued at the meeting and not rolled back.
    """

    job_ids: list[UUID]
    lease: Lease | None = None
    keys: Keys = field(default_factory=Keys)
    answered: list[Enqueued] = field(default_factory=list)

    @property
    def held(self) -> Lease:
        """The lease of the first job's run."""
        assert self.lease is not None
        return self.lease


Scenery = Callable[[Connection], Awaitable[Stage]]
Move = Callable[[Connection, Stage], Coroutine[Any, Any, str]]


def waiting(count: int) -> Scenery:
    """Jobs that may be claimed."""

    async def build(pg: Connection) -> Stage:
        return Stage(await enqueue(pg, *[job() for _ in range(count)]))

    return build


def run(keys: Mapping[str, str] = NO_KEYS, *, expired: bool = False) -> Scenery:
    """A job that runs."""

    async def build(pg: Connection) -> Stage:
        await pg.execute("create table if not exists target (worker uuid)")
        lease = await running(pg, **keys)
        if expired:
            await expire(pg, lease.job_id)
        return Stage([lease.job_id], lease, _keys_of(keys))

    return build


def run_before(keys: Mapping[str, str]) -> Scenery:
    """A job that runs and holds keys, and one that waits for them."""

    async def build(pg: Connection) -> Stage:
        stage = await run(keys)(pg)
        return replace(stage, job_ids=[*stage.job_ids, *await enqueue(pg, job(**keys))])

    return build


def run_beside(count: int) -> Scenery:
    """A job that runs, and others that may be claimed."""

    async def build(pg: Connection) -> Stage:
        stage = await run()(pg)
        return replace(stage, job_ids=[*stage.job_ids, *await enqueue(pg, *[job() for _ in range(count)])])

    return build


async def handed_over(pg: Connection) -> Stage:
    """A job that waits again, and the lease of its former run."""
    stage = await run()(pg)
    assert await settle(pg, stage.held, SettleKind.HANDED_OVER)
    return stage


def behind(keys: Mapping[str, str] = NO_KEYS) -> Scenery:
    """Keys that nobody has used yet."""

    async def build(_: Connection) -> Stage:
        return Stage([], keys=_keys_of(keys))

    return build


def one_behind(keys: Mapping[str, str]) -> Scenery:
    """A job that waits behind keys which are free."""

    async def build(pg: Connection) -> Stage:
        return Stage(await enqueue(pg, job(**keys)), keys=_keys_of(keys))

    return build


def claims(limit: int = 100) -> Move:
    """Claim as an idle process; say which jobs came, by place."""

    async def move(session: Connection, stage: Stage) -> str:
        claimed = [one.lease for one in await claim(session, limit, idle=True, worker_id=uuid4())]
        places = [f"{stage.job_ids.index(lease.job_id) + 1} under epoch {lease.epoch}" for lease in claimed]
        return ", ".join(places) or NOTHING

    return move


def settles(kind: SettleKind) -> Move:
    """Settle the first job's run; say where it went."""

    async def move(session: Connection, stage: Stage) -> str:
        released = await settle(session, stage.held, kind)
        return released.status.value if released else NOTHING

    return move


SUCCEEDS = settles(SettleKind.SUCCEEDED)


async def completes(session: Connection, stage: Stage) -> str:
    """Say that the first job's run succeeded as large batches do; say where it went."""
    completed = await QUEUE.complete(session, [stage.held], actor=ACTOR)
    return NOTHING if completed.missing else "succeeded"


async def beats(session: Connection, stage: Stage) -> str:
    """Renew the first job's lease; say the verdict."""
    (beat,) = await QUEUE.heartbeat(session, {stage.held: None})
    return beat.verdict.value


async def reaps(session: Connection, _: Stage) -> str:
    """Reap; say where the jobs went."""
    return ", ".join(one.status.value for one in await reap(session)) or NOTHING


async def cancels(session: Connection, stage: Stage) -> str:
    """Cancel the first job; say how it stood."""
    operated = await INTAKE.cancel(session, stage.job_ids[0], actor=None)
    assert operated is not None
    return operated.before


async def writes(session: Connection, stage: Stage) -> str:
    """Write a chunk's row."""
    return await session.execute("insert into target values ($1)", stage.job_ids[0])


async def seals(session: Connection, stage: Stage) -> str:
    """Fence a chunk."""
    asked = await QUEUE.checkpoint(session, stage.held, state={"at": 1}, progress=None)
    return "fenced off" if asked is None else "sealed"


async def commits_a_chunk(session: Connection, stage: Stage) -> str:
    """Write a row behind the fence, all or nothing."""
    transaction = session.transaction()
    await transaction.start()
    await writes(session, stage)
    said = await seals(session, stage)
    await (transaction.commit if said == "sealed" else transaction.rollback)()
    return said


async def promotes(session: Connection, stage: Stage) -> str:
    """Offer what waits for the keys; say how many jobs were offered."""
    offered = await PROMOTION.promote(session, stage.keys)
    return f"{offered.total()} offered" if offered else NOTHING


def enqueues(**fields: Any) -> Move:
    """Enqueue a job; say what became of the request."""

    async def move(session: Connection, stage: Stage) -> str:
        (answer,) = await answers(session, job(**fields))
        stage.answered.append(answer)
        return "conflict" if answer.conflict else "created" if answer.created else "replayed"

    return move


async def wind_up(pg: Connection, stage: Stage) -> None:
    """Do what a living fleet does until every job has ended; more than ten rounds mean that one is stuck."""
    words = [" ".join(keys) for keys in (stage.keys.locks, stage.keys.partitions)]
    for _ in range(10):
        await expire(pg, *await pg.fetchval("select array(select job_id from dl_jobs where status = 'running')"))
        await reap(pg)
        await promote(pg, *words)
        for claimed in await claim(pg, idle=True):
            await settle(pg, claimed.lease, SettleKind.SUCCEEDED)


def _keys_of(keys: Mapping[str, str]) -> Keys:
    return Keys.of(keys.get("lock_key"), keys.get("partition_key"))
