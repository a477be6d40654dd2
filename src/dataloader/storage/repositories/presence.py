"""What worker processes say of themselves, and the small state that tasks keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from dataloader.domain.json_values import dump_exact, parse
from dataloader.storage.db import Connection
from dataloader.storage.queries import load_queries


@dataclass(frozen=True, slots=True)
class Presence:
    """A worker process as others see it.

    Attributes:
        queues: Queue to the number of jobs it runs at a time.
        tasks: What it knows.
        takes: Queue to the tasks whose jobs it takes from there.
    """

    worker_id: UUID
    host: str
    pid: int
    version: str
    queues: Mapping[str, int]
    tasks: Sequence[str]
    takes: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as the catalogue keeps it."""

    task: str
    queue: str | None
    doc: str
    args_schema: Mapping[str, object] | None
    options: Mapping[str, object]
    on_partition_failure: str


class PresenceRepository:
    """Workers' rows, the task catalogue, and task state.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(schema)

    async def beat(self, connection: Connection, presence: Presence, *, stopping: bool, ttl_s: float) -> None:
        """Say that a process lives; it counts as gone `ttl_s` after its last word."""
        await connection.execute(
            self._sql.worker_beat,
            presence.worker_id,
            presence.host,
            presence.pid,
            presence.version,
            dump_exact(presence.queues),
            list(presence.tasks),
            dump_exact(presence.takes),
            stopping,
            ttl_s,
        )

    async def leave(self, connection: Connection, worker_id: UUID) -> None:
        """Take a process off the list."""
        await connection.execute(self._sql.worker_leave, worker_id)

    async def publish(self, connection: Connection, entries: Sequence[TaskEntry]) -> None:
        """Publish what a process knows of its tasks."""
        await connection.execute(
            self._sql.publish_tasks,
            [entry.task for entry in entries],
            [entry.queue for entry in entries],
            [entry.doc for entry in entries],
            [None if entry.args_schema is None else dump_exact(entry.args_schema) for entry in entries],
            [dump_exact(entry.options) for entry in entries],
            [entry.on_partition_failure for entry in entries],
        )

    async def load_state(self, connection: Connection, task: str, key: str) -> object | None:
        """Return a value of a task's state, None when it was never set."""
        value = await connection.fetchval(self._sql.load_state, task, key)
        return None if value is None else parse(value)

    async def save_state(self, connection: Connection, task: str, key: str, value: object, *, job_id: UUID) -> None:
        """Set a value of a task's state in the connection's transaction."""
        await connection.execute(self._sql.save_state, task, key, dump_exact(value), job_id)
