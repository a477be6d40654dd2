"""What every line within a request or a run carries, whoever writes it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar, Token
from uuid import UUID

from structlog.contextvars import bound_contextvars
from structlog.typing import EventDict, WrappedLogger

RunFacts = tuple[UUID | str, str, int]
"""Job, task and epoch, put into words only when a line is written."""

_run: ContextVar[RunFacts | None] = ContextVar("dataloader_run", default=None)


def bind_request(request_id: str) -> AbstractContextManager[None]:
    """Give the lines within the block the request's id."""
    return bound_contextvars(request_id=request_id)


class bind_job:  # noqa: N801 - used like a function
    """Give the lines within the block the run they belong to.

    `asyncio` tasks and `asyncio.to_thread` inherit the fields; a bare thread starts without them and
    binds its own.
    """

    __slots__ = ("_facts", "_token")

    def __init__(self, job_id: UUID | str, task: str, epoch: int) -> None:
        self._facts = (job_id, task, epoch)

    def __enter__(self) -> None:
        self._token: Token[RunFacts | None] = _run.set(self._facts)

    def __exit__(self, *_: object) -> None:
        _run.reset(self._token)


def merge_run(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Add the run to a line that does not name one itself."""
    facts = _run.get()
    if facts is not None:
        job_id, task, epoch = facts
        for name, value in (("job_id", str(job_id)), ("task", task), ("epoch", epoch)):
            event_dict.setdefault(name, value)
    return event_dict
