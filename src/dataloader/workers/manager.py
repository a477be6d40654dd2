"""Builds the parts that run jobs from WORKERS_JSON, and drains them in order."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version

import asyncpg

from dataloader.base import Component, supervise
from dataloader.config import QueueWorkers, Settings
from dataloader.context import AppContext
from dataloader.exceptions import DatabaseAwayError, SettingsError
from dataloader.storage.db import is_passing
from dataloader.storage.repositories.presence import Presence
from dataloader.workers.base import Worker, tasks_of
from dataloader.workers.control import Control
from dataloader.workers.drain import Drain
from dataloader.workers.endings import APART, Ending
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.fleet import Fleet
from dataloader.workers.freed_keys import FreedKeys
from dataloader.workers.leases import LeaseKeeper
from dataloader.workers.lineage import Lineage
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.promoter import Promoter
from dataloader.workers.publishing import publish_tasks
from dataloader.workers.reaper import Pruner, Reaper
from dataloader.workers.runs import RunTable
from dataloader.workers.watchdog import Watchdog

GIVE_BACK_TIMEOUT_S = 1.0
UPKEEP_TIMEOUT_S = 2.0
"""How long what goes on beside the workers may take to end: a statement of it can wait behind a lock for long."""


class WorkerManager:
    """The worker role of a process.

    Args:
        ctx: The process.
        registry: The tasks it knows.
        publishing: Whether to tell the catalogue of them; a process for one job keeps to itself.
    """

    name = "workers"

    def __init__(self, ctx: AppContext, registry: Registry, *, publishing: bool = True) -> None:
        self._ctx = ctx
        self._publishing = publishing
        self._registry = registry
        self._logger = ctx.loggers.app.bind(part=self.name)
        self._control = Control(ctx, purpose="control")
        self._upkeep = Control(ctx, purpose="upkeep")
        self._freed = FreedKeys(ctx, Control(ctx, purpose="promotion"))
        self._settler = Control(ctx, purpose="settlements")
        self._fleet = Fleet(ctx, registry, control=self._control, settler=self._settler, freed=self._freed)
        self._queues = queues_of(ctx.settings, registry)
        unknown = [task for task in ctx.settings.dl_process_tasks if task not in registry]
        if unknown:
            raise SettingsError(f"DL_PROCESS_TASKS names {', '.join(unknown)}, which no pipeline is registered for")
        self._loop = asyncio.get_running_loop()
        self._executor = InlineExecutor(ctx, done=self._on_done)
        self._workers = {queue.queue: Worker(self._fleet, queue, self._executor) for queue in self._queues}
        self._leases = LeaseKeeper(ctx, self._fleet.runs, self._presence())
        self._watchdog = Watchdog(
            ctx,
            self._fleet,
            executor=self._executor,
            leases=self._leases,
            control=Control(ctx, purpose="watchdog"),
        )
        self._drain = Drain(ctx, self._fleet, list(self._workers.values()), self._executor)
        ctx.listener.subscribe("cancel", self._on_cancel)

    @property
    def runs(self) -> RunTable:
        """The runs of this process."""
        return self._fleet.runs

    def facts(self) -> dict[str, object]:
        """Return what `/status` shows of the workers."""
        return {
            "worker_id": str(self._ctx.process_id),
            "draining": self._fleet.draining.is_set(),
            "queues": {
                worker.queue: {"active": worker.active, "concurrency": worker.concurrency}
                for worker in self._workers.values()
            },
        }

    def hand_over_now(self) -> None:
        """End the drain at once: cancel what runs and give it back."""
        self._drain.hurry()

    async def run(self, stop: asyncio.Event) -> None:
        """Run jobs until told to stop; then drain, hand over what is left, and return."""
        if self._publishing:
            await publish_tasks(self._ctx, self._registry, stop)
        self._executor.open()
        self._leases.open()
        self._logger.info("workers started", queues={queue.queue: queue.concurrency for queue in self._queues})
        upkeep_stop = asyncio.Event()
        try:
            async with asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(supervise(self._upkeep_parts(), upkeep_stop)),
                    group.create_task(self._get_ready_for_large_batches()),
                ]
                tasks = [
                    group.create_task(worker.run(upkeep_stop), name=worker.name) for worker in self._workers.values()
                ]
                group.create_task(self._drain_when_told(stop, upkeep_stop, tasks, beside))
        finally:
            await self._close()
        self._logger.info("workers stopped")

    async def _get_ready_for_large_batches(self) -> None:
        """Open the connection for them where there can be any, so that the first one need not wait for it."""
        if any(queue.concurrency >= APART for queue in self._queues):
            try:
                await self._settler.complete(())
            except Exception as error:
                if not is_passing(error):
                    raise

    def _upkeep_parts(self) -> Iterable[Component]:
        yield self._freed
        yield Promoter(self._ctx, self._upkeep)
        yield Reaper(self._ctx, self._upkeep, held=self._fleet.runs.held)
        yield Pruner(self._ctx, Control(self._ctx, purpose="pruner"))
        yield self._watchdog
        if self._ctx.settings.dl_lineage_url is not None:
            yield Lineage(self._ctx, self._ctx.settings.dl_lineage_url.get_secret_value())

    async def _drain_when_told(
        self,
        stop: asyncio.Event,
        upkeep_stop: asyncio.Event,
        tasks: list[asyncio.Task[None]],
        beside: list[asyncio.Task[None]],
    ) -> None:
        await stop.wait()
        self._leases.stopping = True
        self._leases.beat_soon()
        await self._drain.run(tasks)
        upkeep_stop.set()
        for task in tasks:
            task.cancel()
        await asyncio.wait(beside, timeout=UPKEEP_TIMEOUT_S)
        for task in beside:
            task.cancel()

    def _on_done(self, outcomes: Sequence[Ending]) -> None:
        """Take outcomes from the executor's thread to the control loop."""
        try:
            self._loop.call_soon_threadsafe(self._deliver, outcomes)
        except RuntimeError:
            self._logger.warning("outcomes after the end of the process are dropped", count=len(outcomes))

    def _deliver(self, outcomes: Sequence[Ending]) -> None:
        by_queue: defaultdict[str, list[Ending]] = defaultdict(list)
        for ending in outcomes:
            by_queue[ending[0].job.queue].append(ending)
        for queue, endings in by_queue.items():
            self._workers[queue].finished(endings)

    def _on_cancel(self, job_id: str) -> None:
        if job_id == "*":
            self._leases.beat_soon()
            return
        for run in self._fleet.runs:
            if str(run.lease.job_id) == job_id:
                self._leases.ask(run)

    async def _give_back_the_rest(self) -> None:
        """Give back what is still running in this process's name: after its end only an expiring lease would tell."""
        try:
            await asyncio.wait_for(self._upkeep.reconcile((), age_s=0), GIVE_BACK_TIMEOUT_S)
        except (DatabaseAwayError, TimeoutError, asyncpg.PostgresError) as error:
            self._logger.warning("could not give back what was running", reason=str(error))

    async def _close(self) -> None:
        """Give everything back; a step that fails does not keep the others from being taken."""
        async with AsyncExitStack() as steps:
            steps.push_async_callback(self._upkeep.close)
            steps.push_async_callback(self._control.close)
            steps.push_async_callback(self._settler.close)
            steps.push_async_callback(self._give_back_the_rest)
            steps.push_async_callback(asyncio.to_thread, self._leases.close)
            steps.push_async_callback(asyncio.to_thread, self._executor.close)

    def _presence(self) -> Presence:
        return Presence(
            worker_id=self._ctx.process_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            version=version("dataloader"),
            queues={queue.queue: queue.concurrency for queue in self._queues},
            tasks=[spec.name for spec in self._registry],
            takes={queue.queue: tasks_of(queue, self._registry) for queue in self._queues},
        )


def queues_of(settings: Settings, registry: Registry) -> list[QueueWorkers]:
    """Return the queues to work on: WORKERS_JSON, or else every queue that a task names."""
    if settings.workers_json is not None:
        return list(settings.workers_json)
    return [QueueWorkers(queue=queue) for queue in registry.queues()]
