"""What callers may say, and how it is written on the wire."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import TypedDict

from dataloader.domain.jobs import JobStatus, NewJob


class TriggerOptions(TypedDict, total=False):
    """What a trigger may say beside task, queue and arguments; see `NewJob` for what each means."""

    idempotency_key: str | None
    lock_key: str | None
    partition_key: str | None
    priority: int | None
    available_at: datetime | None
    max_attempts: int | None
    max_losses: int | None
    timeout_s: float | None
    stall_timeout_s: float | None
    labels: Mapping[str, str]


class JobFilter(TypedDict, total=False):
    """Which jobs to list; all that is given must hold, one of several states or labels each.

    Attributes:
        label: `name=value` texts, all of which must match.
    """

    queue: str | None
    task: str | None
    status: Sequence[JobStatus | str]
    label: Sequence[str]
    lock_key: str | None
    partition_key: str | None
    created_after: datetime | None
    created_before: datetime | None


def job_body(job: NewJob) -> dict[str, object]:
    """Return a trigger's body; what was not said is left out, so that the fingerprint is that of the request."""
    said = {field.name: getattr(job, field.name) for field in fields(job)}
    return {name: _plain(value) for name, value in said.items() if value is not None and not _unsaid(name, value)}


def _unsaid(name: str, value: object) -> bool:
    return name in {"labels", "args"} and not value


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case Mapping():
            return dict(value)
        case _:
            return value


def query_of(filters: JobFilter) -> list[tuple[str, str]]:
    """Return a filter as the pairs of a query; a sequence becomes a pair per item."""
    return [(name, text) for name, value in filters.items() for text in _texts(value)]


def _texts(value: object) -> Iterator[str]:
    match value:
        case None:
            return
        case str():
            yield value
        case datetime():
            yield value.isoformat()
        case Sequence():
            yield from map(str, value)
        case _:
            yield str(value)
