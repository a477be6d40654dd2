"""The schema's truth: tables, checks, indexes and storage parameters."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    Text,
    TextClause,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOMAIN, DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from dataloader.domain.jobs import JobStatus, OnPartitionFailure

SCHEMA_TOKEN = "dataloader_schema"  # noqa: S105 - a name that schema_translate_map replaces
_STATUSES = ", ".join(f"'{status}'" for status in JobStatus)
_FINISHED = "'succeeded', 'failed', 'canceled', 'lost'"
_POLICIES = ", ".join(f"'{policy}'" for policy in OnPartitionFailure)
_NAME = "~ '^[a-z0-9_.-]{1,63}$'"
_WAITING = "status = 'queued' and not ready and hold_reason is null"
_TURN = "ready or status = 'running'"
_FIRST_INSTANT = "timestamptz '0001-01-01 00:00+00'"
_AFTER_LAST = "timestamptz '10000-01-01 00:00+00'"
"""Instants beyond what Python can hold would end the worker that reads them."""

Json = dict[str, object]


class Base(DeclarativeBase):
    """Declarative base; tables live in the schema that PG_SCHEMA names."""

    metadata = MetaData(
        schema=SCHEMA_TOKEN,
        naming_convention={"ck": "%(table_name)s_%(constraint_name)s_ck", "pk": "%(table_name)s_pk"},
    )
    type_annotation_map: ClassVar[dict[object, object]] = {
        str: Text(),
        datetime: TIMESTAMP(timezone=True),
        Json: JSONB(none_as_null=True),
        dict[str, str]: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
        float: DOUBLE_PRECISION(),
    }


def _domain(name: str, base: TypeEngine[Any], check: str) -> TypeEngine[Any]:
    """Return a type that checks a value once, when it comes in; a table's check is evaluated by every update."""
    domain = DOMAIN(
        name, base, check=text(check), constraint_name=f"{name}_ck", metadata=Base.metadata, schema=SCHEMA_TOKEN
    )
    return base.with_variant(domain, "postgresql")


_OCTETS = "octet_length(value) between 1 and 255"
_SECONDS = "value > 0 and value < 'infinity'"
_LABELS = "jsonb_typeof(value) = 'object' and not jsonb_path_exists(value, '$.* ? (@.type() <> \"string\")')"

QUEUE = _domain("dl_queue", Text(), f"value {_NAME}")
TASK = _domain("dl_task", Text(), f"value {_NAME}")
LOCK_KEY = _domain("dl_lock_key", Text(), _OCTETS)
PARTITION_KEY = _domain("dl_partition_key", Text(), _OCTETS)
ARGS = _domain("dl_args", JSONB(none_as_null=True), "jsonb_typeof(value) = 'object'")
LABELS = _domain("dl_labels", JSONB(none_as_null=True), _LABELS)
TIMEOUT_S = _domain("dl_timeout_s", DOUBLE_PRECISION(), _SECONDS)
STALL_TIMEOUT_S = _domain("dl_stall_timeout_s", DOUBLE_PRECISION(), _SECONDS)


def _now() -> TextClause:
    return text("clock_timestamp()")


class Job(Base):
    """One job; `epoch` is its fencing token, `ready` says that it may be claimed now.

    The columns stand in the order in which an update reads them quickest: of fixed size and never null, then others
    that an index names, then what is long or mostly missing.

    Attributes:
        seq: Order of acknowledgement within a partition, and age in the claim's order.
        checkpoint_epoch: Epoch of the run that wrote the checkpoint.
        loss_epoch: Epoch of the last run whose lease expired; a later `checkpoint_epoch` means progress since then.
        blocks_partition: Finally failed or lost, and still in the way of its partition.
        hold_reason: Why the job may not be offered yet although it is due.
    """

    __tablename__ = "dl_jobs"

    job_id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True, server_default=text(f"{SCHEMA_TOKEN}.dl_uuid7()"))
    seq: Mapped[int] = mapped_column(BigInteger, Identity())
    available_at: Mapped[datetime] = mapped_column(server_default=_now())
    created_at: Mapped[datetime] = mapped_column(server_default=_now())
    epoch: Mapped[int] = mapped_column(server_default=text("0"))
    attempt: Mapped[int] = mapped_column(server_default=text("0"))
    handovers: Mapped[int] = mapped_column(server_default=text("0"))
    priority: Mapped[int] = mapped_column(SmallInteger, server_default=text("100"))
    max_attempts: Mapped[int] = mapped_column(SmallInteger, server_default=text("5"))
    losses: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    max_losses: Mapped[int] = mapped_column(SmallInteger, server_default=text("3"))
    ready: Mapped[bool] = mapped_column(server_default=text("false"))
    blocks_partition: Mapped[bool] = mapped_column(server_default=text("false"))
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    status: Mapped[str] = mapped_column(server_default=text("'queued'"))
    queue: Mapped[str] = mapped_column(QUEUE)
    task: Mapped[str] = mapped_column(TASK)
    worker_id: Mapped[UUID | None] = mapped_column(Uuid())
    finished_at: Mapped[datetime | None]
    lease_expires_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    offered_at: Mapped[datetime | None]
    checkpoint_epoch: Mapped[int | None]
    loss_epoch: Mapped[int | None]
    timeout_s: Mapped[float | None] = mapped_column(TIMEOUT_S)
    stall_timeout_s: Mapped[float | None] = mapped_column(STALL_TIMEOUT_S)
    lock_key: Mapped[str | None] = mapped_column(LOCK_KEY)
    partition_key: Mapped[str | None] = mapped_column(PARTITION_KEY)
    hold_reason: Mapped[str | None]
    args: Mapped[Json] = mapped_column(ARGS, server_default=text("'{}'"))
    labels: Mapped[dict[str, str]] = mapped_column(LABELS, server_default=text("'{}'"))
    created_by: Mapped[str | None]
    progress: Mapped[Json | None]
    checkpoint: Mapped[Json | None]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    trace_context: Mapped[Json | None]
    data_interval_start: Mapped[datetime | None]
    data_interval_end: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint(f"status in ({_STATUSES})", name="status"),
        CheckConstraint("max_attempts between 1 and 100", name="max_attempts"),
        CheckConstraint("max_losses between 1 and 100", name="max_losses"),
        CheckConstraint("attempt >= 0 and losses >= 0 and epoch >= 0", name="counts"),
        CheckConstraint(f"available_at >= {_FIRST_INSTANT} and available_at < {_AFTER_LAST}", name="available_at"),
        CheckConstraint("not ready or (status = 'queued' and hold_reason is null)", name="ready"),
        CheckConstraint("(status = 'running') = (lease_expires_at is not null)", name="lease"),
        CheckConstraint("status <> 'running' or worker_id is not null", name="owner"),
        CheckConstraint(f"(status in ({_FINISHED})) = (finished_at is not null)", name="end"),
        CheckConstraint("not blocks_partition or status in ('failed', 'lost')", name="blocks"),
        Index("dl_jobs_ready_ix", "queue", "task", "priority", "available_at", "seq", postgresql_where=text("ready")),
        Index(
            "dl_jobs_due_ix",
            "available_at",
            postgresql_where=text(f"{_WAITING} and lock_key is null and partition_key is null"),
        ),
        Index(
            "dl_jobs_keyed_due_ix",
            "available_at",
            postgresql_where=text(f"{_WAITING} and (lock_key is not null or partition_key is not null)"),
        ),
        Index(
            "dl_jobs_lock_ix",
            "lock_key",
            "queue",
            "task",
            "priority",
            "available_at",
            "seq",
            postgresql_where=text("status = 'queued' and lock_key is not null"),
        ),
        Index(
            "dl_jobs_partition_ix",
            "partition_key",
            "seq",
            postgresql_where=text("partition_key is not null and (status = 'queued' or blocks_partition)"),
        ),
        Index(
            "dl_jobs_lock_turn_uq",
            "lock_key",
            unique=True,
            postgresql_where=text(f"lock_key is not null and ({_TURN})"),
        ),
        Index(
            "dl_jobs_partition_turn_uq",
            "partition_key",
            unique=True,
            postgresql_where=text(f"partition_key is not null and ({_TURN})"),
        ),
        # Only statements that also ask for a worker may use it: one that names jobs must never be planned over
        # everything that runs. And no column of the lease may stand in an index, or renewals are no longer HOT.
        Index("dl_jobs_running_ix", "worker_id", postgresql_where=text("status = 'running' and worker_id is not null")),
        Index("dl_jobs_finished_ix", "finished_at", postgresql_where=text("finished_at is not null")),
        {
            "postgresql_with": {
                "fillfactor": 75,
                "autovacuum_vacuum_scale_factor": 0.02,
                "autovacuum_vacuum_threshold": 500,
                "autovacuum_analyze_scale_factor": 0.05,
                "autovacuum_vacuum_insert_scale_factor": 0.1,
                "autovacuum_vacuum_cost_delay": 0,
            }
        },
    )


class JobEvent(Base):
    """One line of the audit log: what happened to a job, when, and by whom."""

    __tablename__ = "dl_job_events"

    event_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[UUID] = mapped_column(Uuid())
    at: Mapped[datetime] = mapped_column(server_default=_now())
    kind: Mapped[str]
    status: Mapped[str]
    epoch: Mapped[int]
    attempt: Mapped[int]
    actor: Mapped[str | None]
    data: Mapped[Json] = mapped_column(server_default=text("'{}'"))

    __table_args__ = (
        Index("dl_job_events_job_ix", "job_id", "event_id"),
        {"postgresql_with": {"autovacuum_vacuum_insert_scale_factor": 0.1}},
    )


class Chunk(Base):
    """One committed chunk of a load: where its rows came from, and what became of them.

    Attributes:
        source: A file, a table, a query, as people know it; None when the pipeline did not say.
        targets: Where the rows went: addresses of tables and files.
        range: Where in the source the rows are; what it means is the pipeline's.
        rows_in: Rows that came.
        rows_out: Rows that were written.
        rejected: Rows that were set aside.
        bytes: Bytes that came, None when they are not counted.
        ms: From the beginning of the chunk to its fence.
    """

    __tablename__ = "dl_chunks"

    job_id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    chunk_id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=_now())
    epoch: Mapped[int]
    attempt: Mapped[int]
    source: Mapped[str | None]
    targets: Mapped[list[str]] = mapped_column(server_default=text("'{}'"))
    range: Mapped[Json | None]
    rows_in: Mapped[int] = mapped_column(BigInteger)
    rows_out: Mapped[int] = mapped_column(BigInteger)
    rejected: Mapped[int] = mapped_column(BigInteger)
    bytes: Mapped[int | None] = mapped_column(BigInteger)
    ms: Mapped[float]

    __table_args__ = ({"postgresql_with": {"autovacuum_vacuum_insert_scale_factor": 0.1}},)


class Idempotency(Base):
    """Which request an idempotency key stands for.

    Attributes:
        final_status: How the job ended, kept here when the job is pruned before its key.
    """

    __tablename__ = "dl_idempotency"

    scope: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary())
    job_id: Mapped[UUID] = mapped_column(Uuid())
    final_status: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=_now())

    __table_args__ = (
        CheckConstraint("octet_length(key) between 1 and 255", name="key"),
        Index("dl_idempotency_created_ix", "created_at", postgresql_where=text("final_status is not null")),
        Index("dl_idempotency_job_ix", "job_id"),
    )


class Task(Base):
    """A task as the workers that know it describe it."""

    __tablename__ = "dl_tasks"

    task: Mapped[str] = mapped_column(primary_key=True)
    queue: Mapped[str | None]
    doc: Mapped[str]
    args_schema: Mapped[Json | None]
    options: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    on_partition_failure: Mapped[str] = mapped_column(server_default=text("'skip'"))
    updated_at: Mapped[datetime] = mapped_column(server_default=_now())

    __table_args__ = (
        CheckConstraint(f"task {_NAME}", name="task"),
        CheckConstraint(f"queue {_NAME}", name="queue"),
        CheckConstraint(f"on_partition_failure in ({_POLICIES})", name="policy"),
    )


class Queue(Base):
    """What operators have said about a queue; a queue without a row is open."""

    __tablename__ = "dl_queues"

    queue: Mapped[str] = mapped_column(primary_key=True)
    paused_at: Mapped[datetime | None]
    paused_by: Mapped[str | None]
    limits: Mapped[Json] = mapped_column(server_default=text("'{}'"))

    __table_args__ = (CheckConstraint(f"queue {_NAME}", name="queue"),)


class WorkerProcess(Base):
    """A process that runs jobs; its id is new at every start."""

    __tablename__ = "dl_workers"

    worker_id: Mapped[UUID] = mapped_column(Uuid(), primary_key=True)
    host: Mapped[str]
    pid: Mapped[int]
    version: Mapped[str]
    queues: Mapped[Json]
    tasks: Mapped[list[str]]
    takes: Mapped[Json] = mapped_column(server_default=text("'{}'"))
    stopping: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime] = mapped_column(server_default=_now())
    heartbeat_at: Mapped[datetime] = mapped_column(server_default=_now())
    expires_at: Mapped[datetime]


class TaskState(Base):
    """A task's small store, such as a high-water mark, committed with the chunk that moved it."""

    __tablename__ = "dl_task_state"

    task: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[Json]
    job_id: Mapped[UUID] = mapped_column(Uuid())
    updated_at: Mapped[datetime] = mapped_column(server_default=_now())


class Lineage(Base):
    """How far the events of lineage have been delivered, and by whom."""

    __tablename__ = "dl_lineage"

    name: Mapped[str] = mapped_column(primary_key=True)
    held_by: Mapped[UUID] = mapped_column(Uuid())
    held_until: Mapped[datetime]
    sent_id: Mapped[int] = mapped_column(BigInteger)
    safe_id: Mapped[int] = mapped_column(BigInteger)
    mark_id: Mapped[int] = mapped_column(BigInteger)
    mark_xid: Mapped[int] = mapped_column(BigInteger)
    mark_at: Mapped[datetime] = mapped_column(server_default=_now())
