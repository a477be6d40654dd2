"""What answers about tasks, queues and workers look like on the wire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from pydantic import Field

from dataloader.api.v1.schemas import AnswerModel


class TaskView(AnswerModel):
    """A task that may be triggered."""

    task: str = Field(examples=["cbr.daily_rates"])
    queue: str | None = Field(description="The only queue its jobs may run on; null for any.", examples=["load.cbr"])
    doc: str = Field(description="First line of the pipeline's docstring.")
    args_schema: dict[str, object] | None = Field(description="JSON Schema of its arguments; null for any object.")
    options: dict[str, object] = Field(description="How its jobs are treated where the trigger does not say.")
    on_partition_failure: str = Field(
        description="What a failed job does to the jobs behind it in its partition: `skip` or `block`.",
        examples=["skip"],
    )


class TaskList(AnswerModel):
    """All tasks, by name."""

    tasks: list[TaskView]


class QueueView(AnswerModel):
    """A queue: what it holds and who serves it; every count ends at 10,000."""

    queue: str = Field(examples=["load.cbr"])
    paused: bool
    paused_at: datetime | None
    paused_by: str | None
    ready: int = Field(description="Jobs that a worker may take now.")
    waiting: int = Field(description="Queued jobs that wait for their time or their turn.")
    running: int
    workers: int = Field(description="Live processes that serve it.")
    slots: int = Field(description="Jobs of it they run at a time, together.")
    oldest_due_s: float | None = Field(description="Seconds that the oldest due job has waited; null when none is due.")


class QueueList(AnswerModel):
    """All queues, by name."""

    queues: list[QueueView]


class WorkerView(AnswerModel):
    """A process that runs jobs."""

    worker_id: UUID = Field(description="New at every start of the process.")
    host: str
    pid: int
    version: str
    queues: dict[str, int] = Field(description="Jobs it runs at a time, by queue.", examples=[{"load.cbr": 4}])
    tasks: list[str] = Field(description="Tasks it knows.")
    alive: bool = Field(description="Whether it has been heard of lately.")
    stopping: bool = Field(description="Whether it takes no more jobs.")
    started_at: datetime
    heartbeat_at: datetime
    expires_at: datetime = Field(description="When it counts as gone unless it is heard of again.")


class WorkerList(AnswerModel):
    """All worker processes, live ones first."""

    workers: list[WorkerView]
