"""What the statements do to a job's status is what the domain's table allows, no less and no more."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from dataloader.domain.jobs import TRANSITIONS, JobStatus, Lease, can_move
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.scene import (
    INTAKE,
    PROMOTION,
    QUEUE,
    RECOVERY,
    WORKER,
    claim,
    enqueue,
    expire,
    job,
    put,
    reap,
    row,
    running,
    settle,
)

S = JobStatus

Verb = Callable[[Connection, UUID], Awaitable[object]]


def _settled(kind: SettleKind) -> Verb:
    async def verb(pg: Connection, job_id: UUID) -> object:
        return await settle(pg, Lease(job_id, (await row(pg, job_id))["epoch"]), kind)

    return verb


async def _reaped(pg: Connection, job_id: UUID) -> object:
    if (await row(pg, job_id))["status"] == "running":
        await expire(pg, job_id)
    return await reap(pg)


async def _beaten(pg: Connection, job_id: UUID) -> object:
    return await QUEUE.heartbeat(pg, {Lease(job_id, (await row(pg, job_id))["epoch"]): None})


async def _saved(pg: Connection, job_id: UUID) -> object:
    lease = Lease(job_id, (await row(pg, job_id))["epoch"])
    return await QUEUE.checkpoint(pg, lease, state={"x": 1}, progress=None)


VERBS: list[Verb] = [
    *map(_settled, SettleKind),
    _reaped,
    _beaten,
    _saved,
    lambda pg, job_id: claim(pg, idle=True),
    lambda pg, job_id: INTAKE.cancel(pg, job_id, actor=None),
    lambda pg, job_id: INTAKE.retry(pg, job_id, from_start=False, actor=None),
    lambda pg, job_id: RECOVERY.reconcile(pg, worker_id=WORKER, held=[], age_s=0.0),
    lambda pg, job_id: PROMOTION.promote_due(pg),
]

FLAVOURS: tuple[dict[str, object], ...] = ({}, {"max_attempts": 1}, {"max_losses": 1})


async def bring_to(pg: Connection, status: JobStatus, flavour: dict[str, object]) -> UUID:
    """Return a job in a state."""
    if status is S.QUEUED:
        return (await enqueue(pg, job(**flavour)))[0]
    lease = await running(pg, **flavour | ({"max_losses": 1} if status is S.LOST else {}))
    if status is S.LOST:
        await _reaped(pg, lease.job_id)
    elif status is not S.RUNNING:
        await settle(pg, lease, SettleKind(status.value))
    assert (await row(pg, lease.job_id))["status"] == status
    return lease.job_id


async def test_every_statement_in_every_state(pg: Connection) -> None:
    seen: set[tuple[JobStatus, JobStatus]] = set()
    for status in S:
        for flavour in FLAVOURS:
            for verb in VERBS:
                await pg.execute("truncate dl_jobs")
                job_id = await bring_to(pg, status, flavour)
                await verb(pg, job_id)
                seen.add((status, S((await row(pg, job_id))["status"])))

    moves = {(before, after) for before, after in seen if before is not after}
    assert moves == {(before, after) for before in S for after in TRANSITIONS[before]}
    assert all(can_move(before, after) for before, after in moves)


async def test_the_audit_log_tells_only_allowed_moves_of_a_long_life(pg: Connection) -> None:
    job_id = await bring_to(pg, S.FAILED, {})
    await INTAKE.retry(pg, job_id, from_start=False, actor=None)
    await claim(pg)
    await _reaped(pg, job_id)
    await claim(pg, idle=True)
    await INTAKE.cancel(pg, job_id, actor=None)
    await _settled(SettleKind.RETRY)(pg, job_id)
    await INTAKE.retry(pg, job_id, from_start=True, actor=None)
    await claim(pg, idle=True)
    await _settled(SettleKind.SUCCEEDED)(pg, job_id)

    told = [S(row["status"]) for row in await pg.fetch("select status from dl_job_events order by event_id")]
    moves = [(before, after) for before, after in itertools.pairwise(told) if before is not after]
    assert all(can_move(before, after) for before, after in moves)
    assert told[0] is S.QUEUED
    assert told[-1] is S.SUCCEEDED
    assert [row["epoch"] for row in await pg.fetch("select epoch from dl_job_events order by event_id")] == sorted(
        row["epoch"] for row in await pg.fetch("select epoch from dl_job_events")
    )


@pytest.mark.parametrize("verb", VERBS)
async def test_a_job_that_is_held_while_it_runs_is_not_offered_again(pg: Connection, verb: Verb) -> None:
    job_id = await bring_to(pg, S.RUNNING, {})
    await put(pg, job_id, hold_reason="by hand")

    await verb(pg, job_id)

    stored = await row(pg, job_id)
    assert (stored["status"] == S.QUEUED) <= (stored["ready"] is False)
    assert await claim(pg, idle=True) == []
