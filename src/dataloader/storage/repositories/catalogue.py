"""What the fleet offers and how it is set: tasks, queues, workers, and the schema's version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Column, ColumnElement, MetaData, Table, Text, func, literal_column, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.domain.jobs import Keys
from dataloader.storage.models import SCHEMA_TOKEN, Job, Queue, Task, WorkerProcess
from dataloader.storage.queries import load_queries
from dataloader.storage.repositories.jobs import COUNT_LIMIT

WORKERS_LIMIT = 1_000
KEYS_LIMIT = 2_000
"""How many keys one call looks at; the sweep takes the rest."""

_VERSION = Table("dl_alembic_version", MetaData(schema=SCHEMA_TOKEN), Column("version_num", Text()))
_KEYED = or_(Job.lock_key.is_not(None), Job.partition_key.is_not(None))
_WAITING: tuple[ColumnElement[bool], ...] = (
    Job.status == literal_column("'queued'"),
    ~Job.ready,
    Job.hold_reason.is_(None),
    _KEYED,
)
"""The condition of the index of waiting jobs with keys, spelled so that the planner sees it."""


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as its workers describe it."""

    task: str
    queue: str | None
    doc: str
    args_schema: Mapping[str, object] | None
    options: Mapping[str, object]
    on_partition_failure: str
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A queue: what it holds and who serves it.

    Attributes:
        ready: Jobs that may be claimed now.
        waiting: Queued jobs that wait for their time or their turn.
        expired: Running jobs whose lease is over.
        workers: Live processes that serve it.
        slots: Jobs of it they run at a time, together.
        oldest_due_s: Seconds that the oldest due job has waited.
    """

    queue: str
    paused_at: datetime | None
    paused_by: str | None
    ready: int
    waiting: int
    running: int
    expired: int
    workers: int
    slots: int
    oldest_due_s: float | None


class CatalogueRepository:
    """Reads tasks, queues and workers; pauses and resumes queues.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(schema)

    async def tasks(self, connection: AsyncConnection) -> list[TaskEntry]:
        """Return every task that workers have published, by name."""
        rows = await connection.execute(select(Task.__table__).order_by(Task.task))
        return [TaskEntry(**row) for row in rows.mappings()]

    async def queues(self, connection: AsyncConnection) -> list[QueueEntry]:
        """Return every queue that a task, a worker, a waiting job or an operator names; counts end at a limit."""
        rows = await connection.exec_driver_sql(self._sql.queue_census, (COUNT_LIMIT,))
        return [QueueEntry(**row) for row in rows.mappings()]

    async def workers(self, connection: AsyncConnection) -> list[Mapping[str, object]]:
        """Return the worker processes, alive ones first."""
        alive = (WorkerProcess.expires_at > func.clock_timestamp()).label("alive")
        columns = WorkerProcess.__table__.c
        statement = select(*columns, alive).order_by(alive.desc(), columns.started_at, columns.worker_id)
        return [dict(row) for row in (await connection.execute(statement.limit(WORKERS_LIMIT))).mappings()]

    async def live_workers(self, connection: AsyncConnection) -> int:
        """Return how many worker processes have been heard of lately."""
        live = select(func.count()).where(WorkerProcess.expires_at > func.clock_timestamp())
        return await connection.scalar(live) or 0

    async def pause(self, connection: AsyncConnection, queue: str, *, actor: str) -> Keys:
        """Pause a queue and withdraw its offers; return the keys that other queues may now take.

        A queue that is paused already keeps its time and actor.
        """
        await connection.execute(
            insert(Queue)
            .values(queue=queue, paused_at=func.clock_timestamp(), paused_by=actor)
            .on_conflict_do_update(
                index_elements=[Queue.queue],
                set_={"paused_at": func.clock_timestamp(), "paused_by": actor},
                where=Queue.paused_at.is_(None),
            )
        )
        withdrawn = update(Job).where(Job.queue == queue, Job.ready, _KEYED).values(ready=False)
        rows = await connection.execute(withdrawn.returning(Job.lock_key, Job.partition_key))
        return _keys((row.lock_key, row.partition_key) for row in rows)

    async def resume(self, connection: AsyncConnection, queue: str) -> Keys:
        """Open a queue again; return keys of its due jobs, whose turn it may be."""
        await connection.execute(update(Queue).where(Queue.queue == queue).values(paused_at=None, paused_by=None))
        waiting = (
            select(Job.lock_key, Job.partition_key)
            .where(Job.queue == queue, *_WAITING, Job.available_at <= func.clock_timestamp())
            .order_by(Job.available_at)
            .limit(KEYS_LIMIT)
        )
        return _keys((row.lock_key, row.partition_key) for row in await connection.execute(waiting))

    async def schema_version(self, connection: AsyncConnection) -> str | None:
        """Return the version of the database's schema, None when there is no schema yet."""
        version: str | None = await connection.scalar(select(_VERSION.c.version_num))
        return version


def _keys(pairs: Iterable[tuple[str | None, str | None]]) -> Keys:
    found = list(pairs)
    return Keys(
        frozenset(lock for lock, _ in found if lock is not None),
        frozenset(partition for _, partition in found if partition is not None),
    )
