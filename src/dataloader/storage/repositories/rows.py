"""Rows of the hot path as values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import asyncpg

from dataloader.domain.jobs import ClaimedJob, JobStatus, Keys, Lease


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


@dataclass(frozen=True, slots=True)
class Released:
    """A job that has just left `running`; its queue or keys may need waking.

    Attributes:
        ready: It waits in its queue and may be claimed at once.
    """

    lease: Lease
    status: JobStatus
    attempt: int
    queue: str
    keys: Keys
    ready: bool

    @classmethod
    def from_row(cls, row: asyncpg.Record) -> Released:
        """Read a row of settle, reap or reconcile."""
        return cls(
            lease=Lease(row["job_id"], row["epoch"]),
            status=JobStatus(row["status"]),
            attempt=row["attempt"],
            queue=row["queue"],
            keys=Keys.of(row["lock_key"], row["partition_key"]),
            ready=row["ready"],
        )


@dataclass(frozen=True, slots=True)
class Operated:
    """The answer to a cancel or a retry: the status before, and what may need waking."""

    job_id: UUID
    before: str
    queue: str
    keys: Keys


def loaded(value: str | None) -> Mapping[str, object] | None:
    """Parse a JSON column; it was written as an object."""
    if value is None:
        return None
    parsed: Mapping[str, object] = json.loads(value)
    return parsed


def claimed_job(row: asyncpg.Record) -> ClaimedJob:
    """Read a row of the claim."""
    return ClaimedJob(
        lease=Lease(row["job_id"], row["epoch"]),
        queue=row["queue"],
        task=row["task"],
        args=loaded(row["args"]) or {},
        attempt=row["attempt"],
        max_attempts=row["max_attempts"],
        losses=row["losses"],
        checkpoint=loaded(row["checkpoint"]),
        progress=loaded(row["progress"]),
        lock_key=row["lock_key"],
        partition_key=row["partition_key"],
        timeout_s=row["timeout_s"],
        stall_timeout_s=row["stall_timeout_s"],
        cancel_requested=row["cancel_requested"],
        created_at=row["created_at"],
        available_at=row["available_at"],
        started_at=row["started_at"],
    )
