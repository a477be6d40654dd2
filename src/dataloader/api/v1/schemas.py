"""What requests and answers about jobs look like on the wire."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool

from dataloader.api.v1.fields import (
    BULK_LIMIT,
    PAGE_LIMIT,
    Args,
    Attempts,
    Instant,
    Key,
    Labels,
    Name,
    Priority,
    Seconds,
)
from dataloader.domain.datasets import shown
from dataloader.domain.jobs import JobStatus, NewJob

WAIT_LIMIT_S = 300.0
EXAMPLE_ID = "019a2f6e-5c1b-7d3e-9f00-1a2b3c4d5e6f"

Dataset = Annotated[str, AfterValidator(shown)]
"""A path, an address or a name; of a table neither host nor database."""


class RequestModel(BaseModel):
    """Base of what comes in: a field we do not know is an error, not a typo we swallow."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AnswerModel(BaseModel):
    """Base of what goes out: every key is always there, null when empty."""

    model_config = ConfigDict(frozen=True)


class TriggerRequest(RequestModel):
    """A job to be queued."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "queue": "load.cbr",
                    "task": "cbr.daily_rates",
                    "args": {"start": "2025-04-01", "end": "2025-04-07"},
                    "idempotency_key": "cbr-2025-w14",
                }
            ]
        }
    )

    queue: Name = Field(description="Queue whose workers run the job.", examples=["load.cbr"])
    task: Name = Field(description="Task to run; `GET /tasks` lists them.", examples=["cbr.daily_rates"])
    args: Args = Field(
        default_factory=dict,
        description="Arguments of the task, at most 1 MiB.",
        examples=[{"date": "2025-04-01"}],
    )
    idempotency_key: Key | None = Field(
        default=None,
        description="Repeating the request with the same key answers the same job; 1 to 255 bytes.",
        examples=["cbr-2025-04-01"],
    )
    lock_key: Key | None = Field(
        default=None, description="At most one job per key runs at a time, in any queue.", examples=["table:cbr_rates"]
    )
    partition_key: Key | None = Field(
        default=None,
        description="Jobs of one partition run one at a time, in the order in which they were acknowledged.",
        examples=["customer-7"],
    )
    priority: Priority | None = Field(default=None, description="Lower runs first; 100 when not given.", examples=[50])
    available_at: Instant | None = Field(
        default=None,
        description="Not before this instant; with an offset, in the years 1 to 9999.",
        examples=["2026-01-31T08:00:00Z"],
    )
    max_attempts: Attempts | None = Field(
        default=None, description="Attempts before the job fails; the task's default when not given.", examples=[3]
    )
    max_losses: Attempts | None = Field(
        default=None,
        description="Workers that may die under the job, without progress between, before it is lost.",
        examples=[3],
    )
    timeout_s: Seconds | None = Field(default=None, description="Longest run time of an attempt.", examples=[3600])
    stall_timeout_s: Seconds | None = Field(
        default=None, description="Longest time between two safe points of a run.", examples=[300]
    )
    labels: Labels | None = Field(
        default=None, description="Up to 64 labels to find the job by.", examples=[{"team": "treasury"}]
    )

    def as_job(self) -> NewJob:
        """Return the request as the domain knows it."""
        return NewJob(
            queue=self.queue,
            task=self.task,
            args=self.args,
            idempotency_key=self.idempotency_key,
            lock_key=self.lock_key,
            partition_key=self.partition_key,
            priority=self.priority,
            available_at=self.available_at,
            max_attempts=self.max_attempts,
            max_losses=self.max_losses,
            timeout_s=self.timeout_s,
            stall_timeout_s=self.stall_timeout_s,
            labels=self.labels or {},
        )


class BulkRequest(RequestModel):
    """Jobs to be queued together, in one transaction."""

    jobs: Annotated[list[TriggerRequest], Field(min_length=1, max_length=BULK_LIMIT)] = Field(
        description="1 to 10,000 jobs; one bad job refuses them all."
    )


class RetryRequest(RequestModel):
    """How to retry; the body may be left out."""

    from_start: StrictBool = Field(
        default=False, description="Drop the checkpoint and begin again from the start.", examples=[False]
    )


class Triggered(AnswerModel):
    """The job of a trigger."""

    job_id: UUID = Field(description="Id of the job, ordered by time.", examples=[EXAMPLE_ID])
    status: JobStatus = Field(description="Where the job stands now.")


class BulkItem(Triggered):
    """The job of one item of a bulk trigger."""

    created: bool = Field(description="False when the idempotency key had been used before.")


class BulkTriggered(AnswerModel):
    """The jobs of a bulk trigger, in the order of the request."""

    jobs: list[BulkItem]


class JobProgress(AnswerModel):
    """How far a job is, over all its attempts."""

    done: float | None = Field(default=None, description="Units done so far.", examples=[4])
    total: float | None = Field(default=None, description="Units there are; null when unknown.", examples=[7])
    unit: str | None = Field(default=None, description="What is counted.", examples=["days"])
    message: str | None = Field(default=None, description="One line for people.")
    rate: float | None = Field(default=None, description="Units per second of the present run.", examples=[1.6])
    eta_s: float | None = Field(default=None, description="Seconds that are left at this rate.", examples=[1.9])


class JobErrorView(AnswerModel):
    """Why the last attempt failed, masked and bounded."""

    type: str | None = Field(default=None, description="Kind of the error.", examples=["SourceError"])
    message: str | None = Field(default=None, description="What it said.", examples=["HTTP 502 from the source"])
    traceback: str | None = Field(default=None, description="Where it came from; null in lists.")


class JobState(AnswerModel):
    """Where a job stands."""

    job_id: UUID = Field(description="Id of the job.", examples=[EXAMPLE_ID])
    queue: str = Field(description="Queue it was triggered on.", examples=["load.cbr"])
    task: str = Field(description="Task it runs.", examples=["cbr.daily_rates"])
    status: JobStatus = Field(description="Where it stands.")
    attempt: int = Field(description="Attempts that have begun.", examples=[1])
    max_attempts: int = Field(description="Attempts before it fails.", examples=[5])
    losses: int = Field(description="Leases in a row that expired without progress between.", examples=[0])
    cancel_requested: bool = Field(description="Whether it was asked to stop.")
    created_at: datetime
    available_at: datetime = Field(
        description="When it is due; of a job that waits for a retry, the time of the retry."
    )
    started_at: datetime | None = Field(description="When a worker last claimed it.")
    heartbeat_at: datetime | None = Field(description="When its worker last showed that it lives.")
    finished_at: datetime | None
    progress: JobProgress | None
    error: JobErrorView | None = Field(description="Why the last attempt failed; it stays while a retry waits.")


class JobStatusView(JobState):
    """Where a job stands, and what came out of it."""

    result: object | None = Field(description="What the pipeline returned, of a job that succeeded.")


class JobSummary(JobState):
    """A job in a list."""

    priority: int
    lock_key: str | None
    partition_key: str | None
    labels: dict[str, str]
    created_by: str | None = Field(description="Who triggered it.", examples=["http:127.0.0.1"])


class JobDetail(JobSummary):
    """All that is known of a job."""

    args: dict[str, object]
    max_losses: int
    handovers: int = Field(description="How often a run was given back uncharged.")
    epoch: int = Field(description="Fencing token; grows with every claim.")
    worker_id: UUID | None = Field(description="Process that runs it or ran it last.")
    lease_expires_at: datetime | None
    timeout_s: float | None
    stall_timeout_s: float | None
    hold_reason: str | None
    blocks_partition: bool = Field(description="Whether its end holds up the jobs behind it in its partition.")
    checkpoint: dict[str, object] | None = Field(description="Where the next run goes on.")
    result: object | None


class JobPage(AnswerModel):
    """A page of jobs, newest first."""

    jobs: list[JobSummary]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the next page; null on the last.")


class JobEventView(AnswerModel):
    """One line of a job's audit log."""

    event_id: int = Field(description="Grows with time.", examples=[42])
    at: datetime
    kind: str = Field(description="What happened.", examples=["claimed"])
    status: JobStatus = Field(description="Status of the job after it.")
    epoch: int
    attempt: int
    actor: str | None = Field(description="Who did it.", examples=["http:127.0.0.1"])
    data: dict[str, object]


class JobEvents(AnswerModel):
    """A part of a job's audit log, oldest first."""

    events: list[JobEventView]
    next_after: int | None = Field(description="Pass it as `after` for what follows; null when this was the end.")


class JobChunkView(AnswerModel):
    """One committed chunk."""

    chunk_id: int = Field(description="Grows with time.", examples=[42])
    at: datetime
    epoch: int
    attempt: int
    source: Dataset | None = Field(description="Where its rows came from.", examples=["/data/prices.csv"])
    targets: list[Dataset] = Field(description="Tables and files that they went to.", examples=[["public.prices"]])
    range: dict[str, object] | None = Field(description="Where in the source they are.")
    rows_in: int = Field(description="Rows that came.")
    rows_out: int = Field(description="Rows that were written.")
    rejected: int = Field(description="Rows that were set aside.")
    bytes: int | None = Field(description="Bytes that came, null when they are not counted.")
    ms: float = Field(description="How long it took.")


class JobChunks(AnswerModel):
    """A part of a job's ledger of chunks, oldest first."""

    chunks: list[JobChunkView]
    next_after: int | None = Field(description="Pass it as `after` for what follows; null when this was the end.")


class WaitReason(AnswerModel):
    """One thing that keeps a job waiting."""

    reason: Literal[
        "held", "not_due", "queue_paused", "no_worker", "lock", "partition", "after_loss", "turn", "slot"
    ] = Field(description="Stable name of the reason.")
    message: str = Field(description="The same for people.")
    job_id: UUID | None = Field(default=None, description="The job in the way.")
    until: datetime | None = Field(default=None, description="When the reason ends by itself.")
    ahead: int | None = Field(default=None, description="Jobs that come first; counted up to 10,000.")


class JobWhy(AnswerModel):
    """What a queued job waits for; nothing when it does not wait."""

    job_id: UUID
    status: JobStatus
    waits_for: list[WaitReason] = Field(description="All that is in the way, what lasts longest first.")


class JobQuery(RequestModel):
    """Which jobs to list, and which page."""

    queue: Name | None = Field(default=None, description="Jobs of this queue.")
    task: Name | None = Field(default=None, description="Jobs of this task.")
    status: list[JobStatus] = Field(default_factory=list, description="Jobs in one of these states; may be repeated.")
    label: list[str] = Field(
        default_factory=list, max_length=16, description="`name=value`; may be repeated, all must match."
    )
    lock_key: Key | None = Field(default=None, description="Jobs with this lock key.")
    partition_key: Key | None = Field(default=None, description="Jobs of this partition.")
    created_after: Instant | None = Field(default=None, description="Created at this instant or later.")
    created_before: Instant | None = Field(default=None, description="Created before this instant.")
    cursor: str | None = Field(default=None, max_length=100, description="From `next_cursor` of the page before.")
    limit: int = Field(default=50, ge=1, le=PAGE_LIMIT, description="Jobs per page.")
