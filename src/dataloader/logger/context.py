"""What every line within a request or a run carries, whoever writes it."""

from __future__ import annotations

from contextvars import ContextVar, Token
from uuid import UUID

from structlog.typing import EventDict, WrappedLogger

RunFacts = tuple[UUID | str, str, int]
"""Job, task and epoch, put into words only when a line is written."""

_request: ContextVar[str | None] = ContextVar("dataloader_request", default=None)
_run: ContextVar[RunFacts | None] = ContextVar("dataloader_run", default=None)


class bind_request:  # noqa: N801 - used like a function
    """Give the lines within the block the request's id."""

    __slots__ = ("_request_id", "_token")

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id

    def __enter__(self) -> None:
        self._token: Token[str | None] = _request.set(self._request_id)

    def __exit__(self, *_: object) -> None:
        _request.reset(self._token)


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


def merge_bound(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Add request and run to a line that does not name them itself."""
    if (request_id := _request.get()) is not None:
        event_dict.setdefault("request_id", request_id)
    facts = _run.get()
    if facts is not None:
        job_id, task, epoch = facts
        for name, value in (("job_id", str(job_id)), ("task", task), ("epoch", epoch)):
            event_dict.setdefault(name, value)
    return event_dict
