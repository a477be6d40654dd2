"""What can go wrong, in categories a caller can act on; each error has a stable code and knows nothing of HTTP."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import ClassVar


class DataloaderError(Exception):
    """Base of every error Dataloader raises on purpose.

    Attributes:
        code: Stable identifier for programs; the message is for people and may change.
        details: Facts beside the message that are safe to show to a client.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **details: object) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class NotFoundError(DataloaderError):
    """The thing asked for does not exist."""

    code = "not_found"


class JobNotFoundError(NotFoundError):
    """No job has this id."""

    code = "job_not_found"


class QueueNotFoundError(NotFoundError):
    """No worker, task or job names this queue."""

    code = "queue_not_found"


class ConflictError(DataloaderError):
    """The request contradicts the present state; repeating it unchanged will not help."""

    code = "conflict"


class IdempotencyConflictError(ConflictError):
    """The idempotency key was used for a different request."""

    code = "idempotency_conflict"


class JobStateError(ConflictError):
    """The job's status does not allow the operation."""

    code = "job_state_conflict"


class InvalidError(DataloaderError):
    """The request cannot be understood or breaks a rule; the fault is the caller's."""

    code = "invalid"


class UnknownTaskError(InvalidError):
    """No pipeline of this name is known."""

    code = "unknown_task"


class WrongQueueError(InvalidError):
    """The task runs on another queue only."""

    code = "wrong_queue"


class InvalidArgsError(InvalidError):
    """The arguments do not fit the task's schema."""

    code = "invalid_args"


class ForbiddenError(DataloaderError):
    """The caller may not do this."""

    code = "forbidden"


class UnavailableError(DataloaderError):
    """Something this needs is away for now; repeating the request later may help."""

    code = "unavailable"


class DatabaseAwayError(UnavailableError):
    """PostgreSQL cannot be reached, or went away in the middle."""

    code = "database_unavailable"


class SettingsError(DataloaderError):
    """A setting is missing or wrong; the message names it and says what to do."""

    code = "bad_settings"


class SchemaVersionError(DataloaderError):
    """The database's schema is not the one this version needs."""

    code = "schema_version"


class PermanentError(DataloaderError):
    """Raised by a pipeline when trying again is pointless; the job fails at once."""

    code = "permanent"


class SourceError(DataloaderError):
    """A source answered with something that cannot be used; a later attempt may succeed."""

    code = "source"


class LeaseLostError(DataloaderError):
    """This run's lease is gone; the run must stop and can write nothing more."""

    code = "lease_lost"


class StallError(DataloaderError):
    """The pipeline reached no safe point for longer than its stall timeout."""

    code = "stalled"


class RunTimeoutError(DataloaderError):
    """The attempt ran longer than its timeout."""

    code = "timeout"


class RetryLater(DataloaderError):  # noqa: N818 - a request to the runner, named for what the pipeline asks
    """Raised by a pipeline to be run again after a delay; nothing is charged.

    Args:
        delay: Seconds, or a timedelta, until the job is due again.
        reason: Shown to people while the job waits.

    Raises:
        ValueError: The delay is negative, infinite or not a number.
    """

    code = "retry_later"

    def __init__(self, delay: float | timedelta, reason: str = "the pipeline asked to be run later") -> None:
        super().__init__(str(reason))
        self.delay_s = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not (math.isfinite(self.delay_s) and self.delay_s >= 0):
            raise ValueError(f"RetryLater takes seconds from 0 or a timedelta, not {delay!r}")


class ChildDiedError(DataloaderError):
    """A pipeline's own process ended without saying how its run ended."""

    code = "child_died"
