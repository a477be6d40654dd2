"""A queue's worker: wake, settle what ended, claim for free slots, start runs."""

from __future__ import annotations

import asyncio
import random
import time

from dataloader.config import QueueWorkers
from dataloader.domain.jobs import ClaimedJob
from dataloader.domain.outcomes import Outcome
from dataloader.storage.repositories.queue import Claim
from dataloader.workers.endings import Endings, Slots, parted
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.fleet import Fleet
from dataloader.workers.low_water import LowWater
from dataloader.workers.periodic import Patience, Wake
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.run_log import RunLog
from dataloader.workers.runs import Run

BUSY_PAUSE_S = 0.01
"""First pause before a row that is locked by somebody else is tried again; it doubles."""

CLAIM_LIMIT = 500
"""Most jobs of one claim: while those run, the database answers the next one."""


def tasks_of(queue: QueueWorkers, registry: Registry) -> list[str]:
    """Return the tasks whose jobs a queue's worker takes."""
    known = registry.tasks_on(queue.queue)
    return known if queue.tasks is None else [name for name in queue.tasks if name in registry]


class Worker:
    """Runs the jobs of one queue, as many at a time as it has slots.

    Args:
        fleet: What the workers of the process share.
        queue: The queue and its slots.
        executor: Where pipelines run.
    """

    def __init__(self, fleet: Fleet, queue: QueueWorkers, executor: InlineExecutor) -> None:
        self.name = f"worker {queue.queue}"
        self.queue = queue.queue
        self.wake = Wake()
        self._fleet = fleet
        self._ctx = fleet.ctx
        self._executor = executor
        self._tasks = tasks_of(queue, fleet.registry)
        self._patience = Patience(fleet.ctx.loggers.app.bind(part=self.name))
        self._busy_pause_s = 0.0
        self._slots = Slots(queue.concurrency)
        self._log = RunLog(fleet.ctx, queue.queue)
        self._endings = Endings(fleet, self._slots, self._log, self.wake)
        self._low_water = LowWater()
        fleet.ctx.listener.subscribe("queue", self._on_notification)

    @property
    def concurrency(self) -> int:
        """All slots."""
        return self._slots.concurrency

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._slots.active

    async def run(self, stop: asyncio.Event) -> None:
        """Work until the fleet drains and nothing is left to settle, or until told to stop at once."""
        try:
            while not stop.is_set():
                pause_s = await self._turn()
                if self._fleet.draining.is_set() and not self._slots.active:
                    return
                await self.wake.wait(pause_s)
        finally:
            await self._endings.close()
            asyncio.get_running_loop().call_soon(self._log.close)

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Take the outcome of a run; its end is written as soon as may be. Only the first one counts."""
        self._endings.add(run, outcome)

    def _on_notification(self, queue: str) -> None:
        if queue in {self.queue, "*"}:
            self.wake.set()

    async def _turn(self) -> float:
        """Exchange with the database; return how long to wait for the next reason to."""
        try:
            while await self._exchange():
                pass
        except Exception as error:  # noqa: BLE001 - a retry boundary: what does not pass is raised again
            self._ctx.metrics.database_error("control")
            return self._patience.failed(error)
        self._patience.ok()
        pause_s = self._ctx.settings.dl_poll_sec / 2 * random.uniform(0.6, 1.0)  # noqa: S311 - jitter
        self._busy_pause_s = min(max(2 * self._busy_pause_s, BUSY_PAUSE_S), pause_s) if self._endings.busy else 0.0
        return self._busy_pause_s or min(pause_s, self._low_water.pause_s(time.monotonic()) or pause_s)

    async def _exchange(self) -> bool:
        """Settle and claim; return whether there is more to do of either."""
        batch = self._endings.take()
        try:
            async with self._fleet.turn:
                wanted = self._wanted(len(batch) + self._endings.leaving)
                if wanted is None and not batch:
                    return False
                settlements, succeeded = parted(batch)
                sent_s = time.monotonic()
                settled, jobs, reached = await self._fleet.control.exchange(settlements, wanted, succeeded=succeeded)
                if wanted and reached:
                    self._low_water.reached(wanted.after, reached, time.monotonic())
                if jobs:
                    self._executor.start([self._enter(job, sent_s) for job in jobs])
            # What is only said of jobs can wait until the database works on the next exchange.
            asyncio.get_running_loop().call_soon(self._note, jobs)
            if batch:
                await self._endings.written(batch, settled)
        except BaseException:
            self._endings.put_back(batch)
            raise
        return (wanted is not None and len(jobs) == wanted.limit) or not self._endings.idle

    def _wanted(self, ending: int) -> Claim | None:
        """Return what to claim; runs whose end is written with the same statement, or beside it, leave their slots."""
        free = self._slots.concurrency - self._slots.active + ending
        if free <= 0 or not self._fleet.may_claim():
            return None
        idle = len(self._fleet.runs) == ending
        after = self._low_water.after(time.monotonic())
        return Claim(self.queue, self._tasks, min(free, CLAIM_LIMIT), self._ctx.process_id, idle, after)

    def _note(self, jobs: list[ClaimedJob]) -> None:
        self._log.claimed(jobs)
        self._log.flush(self._slots.active)

    def _enter(self, job: ClaimedJob, sent_s: float) -> Run:
        run = Run(job, self._fleet.registry.get(job.task), claim_sent_s=sent_s)
        self._fleet.start(run)
        self._slots.active += 1
        return run
