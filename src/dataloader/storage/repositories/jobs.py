"""Jobs as people and programs look at them: one, pages of them, their audit log, and why one waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, cast, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from dataloader.domain.jobs import JobStatus
from dataloader.storage.models import Chunk, Job, JobEvent
from dataloader.storage.queries import load_queries

COUNT_LIMIT = 10_000
"""Where counting jobs stops: beyond it a number tells nothing more."""

MESSAGE_LIMIT = 500
PAGE_TIMEOUT_MS = 4_000

Row = Mapping[str, object]

_STATUS: tuple[InstrumentedAttribute[object], ...] = (
    Job.job_id,
    Job.queue,
    Job.task,
    Job.status,
    Job.attempt,
    Job.max_attempts,
    Job.losses,
    Job.cancel_requested,
    Job.created_at,
    Job.available_at,
    Job.started_at,
    Job.heartbeat_at,
    Job.finished_at,
    Job.progress,
)
_SUMMARY: tuple[InstrumentedAttribute[object], ...] = (
    *_STATUS,
    Job.priority,
    Job.lock_key,
    Job.partition_key,
    Job.labels,
    Job.created_by,
)
_DETAIL: tuple[InstrumentedAttribute[object], ...] = (
    *_SUMMARY,
    Job.args,
    Job.max_losses,
    Job.handovers,
    Job.epoch,
    Job.worker_id,
    Job.lease_expires_at,
    Job.timeout_s,
    Job.stall_timeout_s,
    Job.hold_reason,
    Job.blocks_partition,
    Job.checkpoint,
    Job.result,
    Job.error,
)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a list shows; None and empty mean all.

    Attributes:
        labels: All of them must match.
        created_after: Inclusive.
        created_before: Exclusive.
    """

    queue: str | None = None
    task: str | None = None
    statuses: frozenset[JobStatus] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)
    lock_key: str | None = None
    partition_key: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class WaitFacts:
    """What may keep a job waiting, as the database sees it now.

    Attributes:
        due_in_s: 0 when the job is due.
        lock_job_id: The job that holds the lock key, running or about to.
        head_job_id: The job that comes first in the partition, None when this one does.
        processes: Live workers that serve the queue and know the task.
        slots: Jobs of the queue they run at a time, together.
        running: Jobs of the queue that run now, counted up to a limit.
        ahead: Ready jobs of the queue that come first, counted up to a limit.
    """

    status: JobStatus
    ready: bool
    queue: str
    task: str
    hold_reason: str | None
    lock_key: str | None
    partition_key: str | None
    losses: int
    available_at: datetime
    due_in_s: float
    paused_at: datetime | None
    paused_by: str | None
    lock_job_id: UUID | None
    lock_job_status: str | None
    head_job_id: UUID | None
    head_job_status: str | None
    processes: int
    slots: int
    running: int
    ahead: int


class JobsRepository:
    """Reads jobs.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(schema)

    async def status(self, connection: AsyncConnection, job_id: UUID) -> Row | None:
        """Return what is asked again and again while a job runs."""
        return await _one(connection, select(*_STATUS, Job.error, Job.result).where(Job.job_id == job_id))

    async def get(self, connection: AsyncConnection, job_id: UUID) -> Row | None:
        """Return all of a job."""
        return await _one(connection, select(*_DETAIL).where(Job.job_id == job_id))

    async def page(
        self, connection: AsyncConnection, wanted: JobFilter, *, limit: int, before: UUID | None
    ) -> list[Row]:
        """Return up to `limit` jobs, newest first, older than `before`; errors are cut short.

        A filter that matches next to nothing reads the whole table, so the server itself bounds the time.
        """
        await connection.execute(text(f"set local statement_timeout = {PAGE_TIMEOUT_MS}"))
        statement = select(*_SUMMARY, _short_error()).where(*_conditions(wanted)).order_by(Job.job_id.desc())
        if before is not None:
            statement = statement.where(Job.job_id < before)
        return await _all(connection, statement.limit(limit))

    async def events(self, connection: AsyncConnection, job_id: UUID, *, after: int, limit: int) -> list[Row]:
        """Return the audit log of a job after an event, oldest first.

        Ids of one job's events are in commit order, because each is written under the lock of the job's row.
        """
        statement = select(
            JobEvent.event_id,
            JobEvent.at,
            JobEvent.kind,
            JobEvent.status,
            JobEvent.epoch,
            JobEvent.attempt,
            JobEvent.actor,
            JobEvent.data,
        ).where(JobEvent.job_id == job_id, JobEvent.event_id > after)
        return await _all(connection, statement.order_by(JobEvent.event_id).limit(limit))

    async def chunks(self, connection: AsyncConnection, job_id: UUID, *, after: int, limit: int) -> list[Row]:
        """Return the committed chunks of a job after one of them, oldest first."""
        columns = [column for column in Chunk.__table__.columns if column is not Chunk.__table__.c.job_id]
        statement = select(*columns).where(Chunk.job_id == job_id, Chunk.chunk_id > after)
        return await _all(connection, statement.order_by(Chunk.chunk_id).limit(limit))

    async def statuses(self, connection: AsyncConnection, job_ids: Sequence[UUID]) -> dict[UUID, JobStatus]:
        """Return the status of each of these jobs that exists."""
        rows = await connection.execute(select(Job.job_id, Job.status).where(Job.job_id == func.any(list(job_ids))))
        return {row.job_id: JobStatus(row.status) for row in rows}

    async def why(self, connection: AsyncConnection, job_id: UUID) -> WaitFacts | None:
        """Return what may keep a job waiting; None when there is no such job."""
        rows = await connection.exec_driver_sql(self._sql.why, (job_id, COUNT_LIMIT))
        row = rows.mappings().one_or_none()
        return None if row is None else WaitFacts(**{**row, "status": JobStatus(row["status"])})


def _conditions(wanted: JobFilter) -> list[ColumnElement[bool]]:
    conditions = [
        column == value
        for column, value in (
            (Job.queue, wanted.queue),
            (Job.task, wanted.task),
            (Job.lock_key, wanted.lock_key),
            (Job.partition_key, wanted.partition_key),
        )
        if value is not None
    ]
    if wanted.statuses:
        conditions.append(Job.status.in_(sorted(wanted.statuses)))
    if wanted.labels:
        conditions.append(Job.labels.contains(cast(dict(wanted.labels), JSONB)))
    if wanted.created_after is not None:
        conditions.append(Job.created_at >= wanted.created_after)
    if wanted.created_before is not None:
        conditions.append(Job.created_at < wanted.created_before)
    return conditions


def _short_error() -> ColumnElement[object]:
    message = func.left(Job.error["message"].astext, MESSAGE_LIMIT)
    short = func.jsonb_build_object("type", Job.error["type"], "message", message, type_=Job.error.type)
    return case((Job.error.is_not(None), short)).label("error")


async def _one(connection: AsyncConnection, statement: Select[*tuple[object, ...]]) -> Row | None:
    row = (await connection.execute(statement)).mappings().one_or_none()
    return None if row is None else dict(row)


async def _all(connection: AsyncConnection, statement: Select[*tuple[object, ...]]) -> list[Row]:
    return [dict(row) for row in (await connection.execute(statement)).mappings()]
