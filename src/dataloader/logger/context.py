"""What every line within a request or a run carries, whoever writes it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from uuid import UUID

from structlog.contextvars import bound_contextvars


def bind_request(request_id: str) -> AbstractContextManager[None]:
    """Give the lines within the block the request's id."""
    return bound_contextvars(request_id=request_id)


def bind_job(job_id: UUID | str, task: str, epoch: int) -> AbstractContextManager[None]:
    """Give the lines within the block the run they belong to.

    `asyncio` tasks and `asyncio.to_thread` inherit the fields; a bare thread starts without them and
    binds its own.
    """
    return bound_contextvars(job_id=str(job_id), task=task, epoch=epoch)
