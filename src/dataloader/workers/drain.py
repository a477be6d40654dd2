"""The end of a worker role: safe points first, then cancellation, then hand-over, within the shutdown grace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from dataloader.base import wait_for
from dataloader.context import AppContext
from dataloader.domain.outcomes import HandedOver
from dataloader.workers.base import Worker
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.fleet import Fleet
from dataloader.workers.runs import Run, StopReason

RESERVE_S = 3.0
"""Of the grace, what is kept for each: cancelled runs to end, the last outcomes, threads and connections."""

HURRY_S = 0.5
"""How long a second signal leaves a cancelled run to end."""

_TURN_S = 0.02


class Drain:
    """Ends the runs of a process.

    Args:
        ctx: The process.
        fleet: Its runs; it claims no more once the drain begins.
        workers: They settle what ends.
        executor: Where runs are cancelled.
    """

    def __init__(self, ctx: AppContext, fleet: Fleet, workers: Sequence[Worker], executor: InlineExecutor) -> None:
        self._grace_s = ctx.settings.dl_shutdown_grace_sec
        self._reserve_s = min(RESERVE_S, self._grace_s / 5)
        self._logger = ctx.loggers.app.bind(part="drain")
        self._fleet = fleet
        self._workers = workers
        self._executor = executor
        self._hurry = asyncio.Event()

    def hurry(self) -> None:
        """Do not wait for safe points any longer."""
        self._hurry.set()

    async def run(self, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Drain; returns when the workers are done, or when there is nothing more to wait for.

        Args:
            tasks: The workers' own. One is done after its last exchange: a claim that was under way has been answered
                and given back.
        """
        deadline_s = time.monotonic() + self._grace_s
        self._begin()
        await self._until_done(tasks, deadline_s - 3 * self._reserve_s, hurry=self._hurry)
        for run in self._fleet.runs:
            self._executor.cancel(run)
        patience_s = HURRY_S if self._hurry.is_set() else self._reserve_s
        await self._until_done(tasks, time.monotonic() + patience_s)
        for run in self._fleet.runs:
            self._give_up(run)
        await self._until_done(tasks, time.monotonic() + self._reserve_s)

    def _begin(self) -> None:
        self._logger.info("draining", running=len(self._fleet.runs))
        self._fleet.draining.set()
        for run in self._fleet.runs:
            run.request_stop(StopReason.HAND_OVER)
        for worker in self._workers:
            worker.wake.set()

    async def _until_done(
        self, tasks: Sequence[asyncio.Task[None]], deadline_s: float, *, hurry: asyncio.Event | None = None
    ) -> None:
        never = asyncio.Event()
        while not all(task.done() for task in tasks) and time.monotonic() < deadline_s:
            if await wait_for(hurry or never, _TURN_S):
                return

    def _give_up(self, run: Run) -> None:
        """Hand over a run that does not end: its fence keeps it from writing anything more."""
        self._logger.error("run does not stop, handed over", job_id=str(run.lease.job_id), task=run.job.task)
        for worker in self._workers:
            if worker.queue == run.job.queue:
                worker.finished([(run, HandedOver("shutdown, the pipeline did not stop"))])
