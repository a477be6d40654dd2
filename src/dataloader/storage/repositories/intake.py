"""How jobs come in and how operators move them; works in the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from dataloader.domain.jobs import Enqueued, JobStatus, Keys, NewJob
from dataloader.domain.json_values import dump_exact
from dataloader.exceptions import InvalidError, UnavailableError
from dataloader.storage.db import Connection
from dataloader.storage.queries import load_queries
from dataloader.storage.repositories.rows import Operated

Target = Connection | AsyncConnection | AsyncSession
DEFAULT_SCOPE = "default"
LOCK_TIMEOUT_S = 3.0

_INVALID = (asyncpg.DataError, asyncpg.CheckViolationError, asyncpg.NotNullViolationError)
_BUSY = (asyncpg.LockNotAvailableError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)


class IntakeRepository:
    """Enqueue, cancel and retry, on an asyncpg connection or a SQLAlchemy connection or session.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(schema)

    async def enqueue(
        self,
        target: Target,
        jobs: Sequence[NewJob],
        *,
        actor: str | None,
        scope: str = DEFAULT_SCOPE,
        notify: bool = False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> list[Enqueued]:
        """Enqueue a batch in the target's transaction; one answer per job, in order.

        Args:
            target: Where to write; nothing is committed here.
            jobs: What to enqueue.
            actor: Who asks, for the audit log.
            scope: Whose idempotency keys these are.
            notify: Wake workers at the commit of this transaction. It serialises commits; leave it off where the
                caller announces the jobs after its commit.
            lock_timeout_s: Longest wait for a key that another transaction holds.

        Raises:
            InvalidError: A value breaks a rule of the table.
            asyncpg.UniqueViolationError: There is a job with the id that was given.
            UnavailableError: Another transaction holds a key of this batch for too long, or the server is out of memory
                or locks; try again.
        """
        body = dump_jobs(jobs)
        with _refused():
            rows = await _fetch(target, self._sql.enqueue, body, scope, actor, notify, f"{lock_timeout_s:g}s")
        return [Enqueued(row["job_id"], JobStatus(row["status"]), row["created"], row["conflict"]) for row in rows]

    async def cancel(self, target: Target, job_id: UUID, *, actor: str | None) -> Operated | None:
        """Cancel a job or ask it to stop; None when there is no such job."""
        with _refused():
            return _operated(job_id, await _fetch(target, self._sql.cancel, job_id, actor))

    async def retry(self, target: Target, job_id: UUID, *, from_start: bool, actor: str | None) -> Operated | None:
        """Queue a finished job again; None when there is no such job."""
        with _refused():
            return _operated(job_id, await _fetch(target, self._sql.retry, job_id, from_start, actor))


def dump_jobs(jobs: Sequence[NewJob]) -> str:
    """Return the JSON array that the enqueue function takes; only fields that were given are in it.

    Raises:
        InvalidError: Arguments or labels are not JSON.
    """
    try:
        return dump_exact([_as_json(job) for job in jobs])
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"args and labels must be JSON values: {error}") from error


def _as_json(job: NewJob) -> dict[str, object]:
    fields: dict[str, object | None] = {
        "job_id": None if job.job_id is None else str(job.job_id),
        "queue": job.queue,
        "task": job.task,
        "args": dict(job.args),
        "idempotency_key": job.idempotency_key,
        "lock_key": job.lock_key,
        "partition_key": job.partition_key,
        "priority": job.priority,
        "available_at": None if job.available_at is None else job.available_at.isoformat(),
        "max_attempts": job.max_attempts,
        "max_losses": job.max_losses,
        "timeout_s": job.timeout_s,
        "stall_timeout_s": job.stall_timeout_s,
        "labels": dict(job.labels) or None,
    }
    return {name: value for name, value in fields.items() if value is not None}


async def _fetch(target: Target, sql: str, *values: object) -> list[dict[str, Any]]:
    if isinstance(target, AsyncSession):
        target = await target.connection()
    if isinstance(target, AsyncConnection):
        result = await target.exec_driver_sql(sql, values)
        names = list(result.keys())
        return [dict(zip(names, row, strict=True)) for row in result]
    return [dict(row) for row in await target.fetch(sql, *values)]


def _operated(job_id: UUID, rows: list[dict[str, Any]]) -> Operated | None:
    if not rows:
        return None
    row = rows[0]
    return Operated(job_id, row["before"], row["queue"], Keys.of(row["lock_key"], row["partition_key"]))


@contextmanager
def _refused() -> Iterator[None]:
    """Turn the server's refusals into the caller's errors."""
    try:
        yield
    except DBAPIError as error:
        _raise_refusal(error.orig.__cause__ if error.orig else None)
        raise
    except asyncpg.PostgresError as error:
        _raise_refusal(error)
        raise


def _raise_refusal(error: BaseException | None) -> None:
    if isinstance(error, _INVALID):
        raise InvalidError(f"the database refused a value: {error}") from error
    if isinstance(error, _BUSY):
        raise UnavailableError("another transaction holds this key at the moment; try again") from error
    if isinstance(error, asyncpg.OutOfMemoryError):
        raise UnavailableError(
            "the server is out of memory or locks at the moment; try again, with fewer jobs"
        ) from error
