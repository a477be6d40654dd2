"""What a job is: its states, the moves between them, and the values that travel with it."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

DEFAULT_PRIORITY = 100
DEFAULT_MAX_ATTEMPTS = 5
DEFAULT_MAX_LOSSES = 3


class JobStatus(StrEnum):
    """Where a job stands; every job ends in one of the last four."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    LOST = "lost"

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended."""
        return self in FINISHED


FINISHED = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.LOST})
RETRYABLE = frozenset({JobStatus.FAILED, JobStatus.CANCELED, JobStatus.LOST})

TRANSITIONS: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.CANCELED}),
    JobStatus.RUNNING: FINISHED | {JobStatus.QUEUED},
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.QUEUED}),
    JobStatus.CANCELED: frozenset({JobStatus.QUEUED}),
    JobStatus.LOST: frozenset({JobStatus.QUEUED}),
}


def can_move(before: JobStatus, after: JobStatus) -> bool:
    """Return whether a job may go from one state to the other."""
    return after in TRANSITIONS[before]


class OnPartitionFailure(StrEnum):
    """What a finally failed or lost job does to the jobs behind it in its partition."""

    SKIP = "skip"
    BLOCK = "block"


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request for a job; None means that the task's or the service's default holds.

    Attributes:
        job_id: Id of the new job, given by whoever may have to ask again; None: the database makes one.
        priority: Lower runs first, 16 bit.
        available_at: Not before this instant (aware).
        timeout_s: Longest run time of one attempt.
        stall_timeout_s: Longest time between two safe points.
    """

    queue: str
    task: str
    args: Mapping[str, object] = field(default_factory=dict)
    idempotency_key: str | None = None
    lock_key: str | None = None
    partition_key: str | None = None
    priority: int | None = None
    available_at: datetime | None = None
    max_attempts: int | None = None
    max_losses: int | None = None
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    job_id: UUID | None = None


def new_job_id() -> UUID:
    """Return a time-ordered UUID, version 7 of RFC 9562."""
    since_1970_ms = time.time_ns() // 1_000_000
    value = since_1970_ms << 80 | int.from_bytes(os.urandom(10))
    return UUID(int=value & ~(0xF << 76 | 0x3 << 62) | 7 << 76 | 2 << 62)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer to a request: the job, and whether this request created it.

    Attributes:
        conflict: The idempotency key belongs to a different request; `job_id` is that request's job.
        announced: The workers have been woken, those of other processes by the commit itself.
    """

    job_id: UUID
    status: JobStatus
    created: bool
    conflict: bool = False
    announced: bool = False


class Lease(NamedTuple):
    """The right to run a job: its id and the fencing token of this claim."""

    job_id: UUID
    epoch: int


class ClaimedJob(NamedTuple):
    """A job as its claimer receives it.

    Attributes:
        attempt: Number of this attempt, from 1.
        checkpoint: What the last committed checkpoint said, None before the first.
        progress: Progress as last written, from an earlier attempt if there was one.
        losses: Expired leases since it last got ahead.
        timeout_s: Longest run time from the trigger, None where the task's own holds.
        stall_timeout_s: Longest time between safe points from the trigger, None where the task's own holds.
        wait_s: Seconds from due to claimed.
    """

    lease: Lease
    queue: str
    task: str
    args: Mapping[str, object]
    attempt: int = 1
    losses: int = 0
    checkpoint: Mapping[str, object] | None = None
    progress: Mapping[str, object] | None = None
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Keys:
    """Lock keys and partition keys whose turn may have changed."""

    locks: frozenset[str] = frozenset()
    partitions: frozenset[str] = frozenset()

    @classmethod
    def of(cls, lock_key: str | None, partition_key: str | None) -> Keys:
        """Return the keys of one job."""
        return cls(
            frozenset() if lock_key is None else frozenset({lock_key}),
            frozenset() if partition_key is None else frozenset({partition_key}),
        )

    def __or__(self, other: Keys) -> Keys:
        return Keys(self.locks | other.locks, self.partitions | other.partitions)

    def __bool__(self) -> bool:
        return bool(self.locks or self.partitions)
