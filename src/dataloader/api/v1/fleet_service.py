"""What can be done with tasks, queues and workers; knows no web framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from dataloader.api.database import Database
from dataloader.api.v1.fleet_schemas import QueueView, TaskView, WorkerView
from dataloader.api.v1.wakeups import WakeUps
from dataloader.context import AppContext
from dataloader.exceptions import NotFoundError, QueueNotFoundError
from dataloader.storage.repositories.catalogue import CatalogueRepository, QueueEntry
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.pipelines.spec import TaskSpec


class FleetService:
    """The use cases around tasks, queues and workers.

    Args:
        ctx: The process.
        registry: Tasks of this process; they are listed even before a worker has published them.
        database: Bounded use of the database.
        wakeups: What follows a commit.
    """

    def __init__(self, ctx: AppContext, registry: Registry, *, database: Database, wakeups: WakeUps) -> None:
        self._audit = ctx.loggers.audit
        self._registry = registry
        self._catalogue = CatalogueRepository(ctx.settings.pg_schema)
        self._database = database
        self._wakeups = wakeups

    async def tasks(self) -> list[TaskView]:
        """Return every task that this process or a worker knows, by name."""
        async with self._database.reading() as connection:
            published = await self._catalogue.tasks(connection)
        views = {entry.task: TaskView.model_validate(asdict(entry)) for entry in published}
        views |= {spec.name: _own_view(spec) for spec in self._registry}
        return sorted(views.values(), key=lambda view: view.task)

    async def task(self, name: str) -> TaskView:
        """Return one task.

        Raises:
            NotFoundError: Nobody knows it.
        """
        tasks = await self.tasks()
        for view in tasks:
            if view.task == name:
                return view
        raise NotFoundError(f"Nobody knows task {name!r}", known=[view.task for view in tasks])

    async def queues(self) -> list[QueueView]:
        """Return every queue that a task, a worker, a waiting job or an operator names."""
        return [_queue_view(entry) for entry in await self._queues()]

    async def pause(self, queue: str, *, actor: str) -> QueueView:
        """Stop claims from a queue; what runs goes on, and keys held by its offers are free for other queues.

        Raises:
            QueueNotFoundError: Nobody names this queue.
        """
        await self._existing(queue)
        async with self._database.transaction() as connection:
            freed = await self._catalogue.pause(connection, queue, actor=actor)
        self._audit.info("queue paused", queue=queue, actor=actor)
        await self._wakeups.send(keys=freed)
        return _queue_view(await self._existing(queue))

    async def resume(self, queue: str, *, actor: str) -> QueueView:
        """Let workers claim from a queue again.

        Raises:
            QueueNotFoundError: Nobody names this queue.
        """
        await self._existing(queue)
        async with self._database.transaction() as connection:
            waiting = await self._catalogue.resume(connection, queue)
        self._audit.info("queue resumed", queue=queue, actor=actor)
        await self._wakeups.send(queues=[queue], keys=waiting)
        return _queue_view(await self._existing(queue))

    async def workers(self) -> list[WorkerView]:
        """Return the worker processes, live ones first."""
        async with self._database.reading() as connection:
            return [WorkerView.model_validate(row) for row in await self._catalogue.workers(connection)]

    async def _queues(self) -> Sequence[QueueEntry]:
        async with self._database.reading() as connection:
            found = {entry.queue: entry for entry in await self._catalogue.queues(connection)}
        for queue in self._registry.queues():
            found.setdefault(queue, QueueEntry(queue, None, None, 0, 0, 0, 0, 0, 0, None))
        return sorted(found.values(), key=lambda entry: entry.queue)

    async def _existing(self, queue: str) -> QueueEntry:
        entries = await self._queues()
        for entry in entries:
            if entry.queue == queue:
                return entry
        raise QueueNotFoundError(
            f"No task, worker or waiting job names queue {queue!r}", known=[entry.queue for entry in entries]
        )


def _own_view(spec: TaskSpec) -> TaskView:
    return TaskView(
        task=spec.name,
        queue=spec.queue,
        doc=spec.doc,
        args_schema=spec.args_schema(),
        options=spec.options.as_json(),
        on_partition_failure=spec.options.on_partition_failure,
    )


def _queue_view(entry: QueueEntry) -> QueueView:
    return QueueView.model_validate(asdict(entry) | {"paused": entry.paused_at is not None})
