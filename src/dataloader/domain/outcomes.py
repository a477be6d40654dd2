"""How one run of a job ended, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, assert_never

from dataloader.domain.jobs import JobStatus, Lease


class SettleKind(StrEnum):
    """What the settling statement does with a run; the job's row decides the rest."""

    SUCCEEDED = "succeeded"
    RETRY = "retry"
    FAILED = "failed"
    CANCELED = "canceled"
    HANDED_OVER = "handed_over"
    RETRY_LATER = "retry_later"


@dataclass(frozen=True, slots=True)
class JobError:
    """Why an attempt failed, masked and bounded, fit to be shown."""

    type: str
    message: str
    traceback: str | None = None

    def as_json(self) -> dict[str, object]:
        """Return the form kept in the job's row."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The pipeline ended."""

    result: object | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    Attributes:
        delay_s: Wait before the next attempt; None means that there is to be none.
        start_over: Attempts start over when this run has advanced the checkpoint.
    """

    error: JobError
    delay_s: float | None
    start_over: bool = False


@dataclass(frozen=True, slots=True)
class Canceled:
    """The job was asked to stop, and stopped."""


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The run was given back uncharged: shutdown, or the database went away."""

    reason: str
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Postponed:
    """The pipeline asked to be run again later; nothing is charged."""

    reason: str
    delay_s: float


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The lease is gone; there is nothing to write."""

    reason: str


ENDS: Mapping[type, frozenset[JobStatus]] = {
    Succeeded: frozenset({JobStatus.SUCCEEDED}),
    Failed: frozenset({JobStatus.FAILED, JobStatus.QUEUED, JobStatus.CANCELED}),
    Canceled: frozenset({JobStatus.CANCELED}),
    HandedOver: frozenset({JobStatus.QUEUED, JobStatus.CANCELED}),
    Postponed: frozenset({JobStatus.QUEUED, JobStatus.CANCELED}),
    Abandoned: frozenset(),
}
"""Where a job may stand after an outcome was written; anything else means that somebody else ended the run."""

Outcome = Succeeded | Failed | Canceled | HandedOver | Postponed | Abandoned


class Settlement(NamedTuple):
    """One run's end as the settling statement takes it."""

    lease: Lease
    kind: SettleKind
    delay_s: float = 0.0
    error: Mapping[str, object] | None = None
    result: object | None = None
    progress: Mapping[str, object] | None = None
    start_over: bool = False
    data: Mapping[str, object] | None = None


def settlement(lease: Lease, outcome: Outcome, progress: Mapping[str, object] | None) -> Settlement | None:
    """Return what to write for an outcome, None when the lease is gone and nothing may be written."""
    match outcome:
        case Succeeded(result=result):
            return Settlement(lease, SettleKind.SUCCEEDED, result=result, progress=progress)
        case Failed():
            return _failed(lease, outcome, progress)
        case Canceled():
            return Settlement(lease, SettleKind.CANCELED, progress=progress)
        case HandedOver(reason=reason, delay_s=delay_s):
            return Settlement(lease, SettleKind.HANDED_OVER, delay_s, progress=progress, data={"reason": reason})
        case Postponed(reason=reason, delay_s=delay_s):
            return Settlement(lease, SettleKind.RETRY_LATER, delay_s, progress=progress, data={"reason": reason})
        case Abandoned():
            return None
        case _:
            assert_never(outcome)


def _failed(lease: Lease, outcome: Failed, progress: Mapping[str, object] | None) -> Settlement:
    error = outcome.error.as_json()
    if outcome.delay_s is None:
        return Settlement(lease, SettleKind.FAILED, error=error, progress=progress)
    return Settlement(lease, SettleKind.RETRY, outcome.delay_s, error, progress=progress, start_over=outcome.start_over)
