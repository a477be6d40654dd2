"""Rows of the hot path as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import asyncpg

from dataloader.domain.jobs import ClaimedJob, JobStatus, Keys, Lease
from dataloader.domain.json_values import parse

_STATUSES = {status.value: status for status in JobStatus}


class Verdict(StrEnum):
    """What a heartbeat learned of a lease."""

    OK = "ok"
    BUSY = "busy"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to one lease's heartbeat."""

    lease: Lease
    verdict: Verdict
    cancel_requested: bool


class Released(NamedTuple):
    """A job that has just left `running`; its queue or keys may need waking.

    Attributes:
        ready: It waits in its queue and may be claimed at once.
    """

    lease: Lease
    status: JobStatus
    attempt: int
    queue: str
    lock_key: str | None
    partition_key: str | None
    ready: bool

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Released:
        """Read a row of exchange, reap or reconcile."""
        return cls(
            Lease(row["job_id"], row["epoch"]),
            _STATUSES[row["status"]],
            row["attempt"],
            row["queue"],
            row["lock_key"],
            row["partition_key"],
            row["ready"],
        )


class Position(NamedTuple):
    """A place in the order of claims."""

    priority: int
    available_at: datetime
    seq: int


class Reached(NamedTuple):
    """How far a claim came.

    Attributes:
        position: The last job that it took; None when it took none, or left one out.
        walked_s: Seconds until it had found its first job, or that there is none.
    """

    position: Position | None
    walked_s: float

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Reached:
        """Read the last row of an exchange."""
        position = None if row["seq"] is None else Position(row["priority"], row["available_at"], row["seq"])
        return cls(position, row["walked_s"])


class Exchanged(NamedTuple):
    """The answer to an exchange.

    Attributes:
        rows: The claimed jobs, in order; to read them takes a while.
        queue: Where they come from.
        reached: None when nothing was to be claimed.
    """

    settled: list[Released]
    rows: Sequence[asyncpg.Record]
    queue: str
    reached: Reached | None

    def claimed(self) -> list[ClaimedJob]:
        """Read the claimed jobs."""
        return [claimed_job(row, self.queue) for row in self.rows]


class Completed(NamedTuple):
    """The answer to completing runs.

    Attributes:
        missing: Those that were not written: the lease is gone, or the row is locked.
        keys: What the others have left.
    """

    missing: frozenset[Lease]
    keys: Keys


@dataclass(frozen=True, slots=True)
class Operated:
    """The answer to a cancel or a retry: the status before, and what may need waking."""

    job_id: UUID
    before: str
    queue: str
    keys: Keys


def loaded(value: str | None) -> Mapping[str, object] | None:
    """Parse a JSON column; it was written as an object."""
    return None if value is None else parse(value)


def claimed_job(row: asyncpg.Record, queue: str) -> ClaimedJob:
    """Read a row of the exchange that was claimed from a queue; taken apart by place, it is read by the thousand."""
    job_id, epoch, _, attempt, _, _, _, _, task, args, losses, checkpoint, progress, timeout_s, stall_s, wait_s, *_ = (
        row
    )
    return ClaimedJob(
        Lease(job_id, epoch),
        queue,
        task,
        {} if args == "{}" else parse(args),
        attempt,
        losses,
        checkpoint and parse(checkpoint),
        progress and parse(progress),
        timeout_s,
        stall_s,
        wait_s,
    )
