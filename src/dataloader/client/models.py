"""What the service answers, read leniently: a newer service may say more, an older one less."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue

from dataloader.domain.jobs import JobStatus


class Answer(BaseModel):
    """Base of all answers; a field that the service did not send is None or empty."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Triggered(Answer):
    """The answer to a trigger.

    Attributes:
        created: Whether this request created the job; False when its idempotency key had been used before.
    """

    job_id: UUID
    status: JobStatus
    created: bool = True


class JobProgress(Answer):
    """How far a job is; `rate` is per second, `eta_s` in seconds."""

    done: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None
    rate: float | None = None
    eta_s: float | None = None


class JobState(Answer):
    """Where a job stands.

    Attributes:
        attempt: Attempts begun so far.
        error: Why the last attempt failed, with at least a `message`.
    """

    job_id: UUID
    status: JobStatus
    queue: str | None = None
    task: str | None = None
    attempt: int = 0
    max_attempts: int | None = None
    losses: int = 0
    cancel_requested: bool = False
    created_at: datetime | None = None
    available_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    heartbeat_at: datetime | None = None
    progress: JobProgress | None = None
    result: JsonValue = None
    error: dict[str, JsonValue] | None = None


class JobDetail(JobState):
    """All that is known of a job."""

    model_config = ConfigDict(extra="allow")

    args: dict[str, JsonValue] = {}
    labels: dict[str, str] = {}
    priority: int | None = None
    lock_key: str | None = None
    partition_key: str | None = None
    epoch: int = 0
    lease_expires_at: datetime | None = None
    checkpoint: dict[str, JsonValue] | None = None
    created_by: str | None = None


class Event(Answer):
    """One line of a job's audit log."""

    event_id: int
    at: datetime
    kind: str
    status: str | None = None
    attempt: int | None = None
    epoch: int | None = None
    actor: str | None = None
    data: dict[str, JsonValue] = {}


class Why(Answer):
    """What a job waits for."""

    model_config = ConfigDict(extra="allow")


class TaskInfo(Answer):
    """A task that can be triggered.

    Attributes:
        queue: The only queue its jobs may run on, None for any.
        args_schema: JSON Schema of its arguments, None when any object is taken.
    """

    task: str
    queue: str | None = None
    doc: str = ""
    args_schema: dict[str, JsonValue] | None = None


class QueueInfo(Answer):
    """A queue, and how many of its jobs are where."""

    model_config = ConfigDict(extra="allow")

    queue: str
    paused: bool = False


class WorkerInfo(Answer):
    """A process that runs jobs."""

    model_config = ConfigDict(extra="allow")

    worker_id: UUID
    host: str | None = None
    pid: int | None = None
    version: str | None = None
    started_at: datetime | None = None
    heartbeat_at: datetime | None = None
