"""A queue's worker: wake, settle what ended, claim for free slots, start runs."""

from __future__ import annotations

import asyncio
import random
import time

from dataloader.config import QueueWorkers
from dataloader.context import AppContext
from dataloader.domain.jobs import ClaimedJob, JobStatus, Lease
from dataloader.domain.outcomes import ENDS, Abandoned, Outcome, Settlement, settlement
from dataloader.workers.control import Control
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.periodic import Patience, Wake
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.runs import Run, RunTable, StopReason

BUSY_PAUSE_S = 0.01
"""First pause before a row that is locked by somebody else is tried again; it doubles."""


class Fleet:
    """What the workers of a process share.

    Attributes:
        runs: Every run of the process, of all queues.
        draining: Set when the process is to end: claim no more.
        blocked: Whether a pipeline keeps the executor's loop from running others.
        turn: Held from the decision to claim until what was claimed is entered.
    """

    def __init__(self, ctx: AppContext, registry: Registry, control: Control) -> None:
        self.ctx = ctx
        self.registry = registry
        self.control = control
        self.runs = RunTable()
        self.draining = asyncio.Event()
        self.blocked = False
        self.turn = asyncio.Lock()
        self._suspects: set[Run] = set()

    def start(self, run: Run) -> None:
        """Enter a run; one that was lost before is watched until it is known to be harmless."""
        self.runs.add(run)
        if self.draining.is_set():
            run.request_stop(StopReason.HAND_OVER)
        if run.job.losses:
            self._suspects.add(run)

    def end(self, run: Run) -> None:
        """Take a run out."""
        self.runs.remove(run)
        self._suspects.discard(run)

    def may_claim(self) -> bool:
        """Return whether new jobs may be claimed now.

        Not while draining, not while a pipeline blocks the loop that new runs would need, and not beside a job that
        was lost before: it runs alone until it has committed a checkpoint or lived for a whole lease, so that what
        killed its last worker takes no others with it.
        """
        if self.draining.is_set() or self.blocked:
            return False
        harmless_s = time.monotonic() - self.ctx.settings.dl_default_lease_ttl_sec
        self._suspects = {run for run in self._suspects if not run.advanced and run.started_s > harmless_s}
        return not self._suspects


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
        self.concurrency = queue.concurrency
        self.wake = Wake()
        self._fleet = fleet
        self._ctx = fleet.ctx
        self._logger = fleet.ctx.loggers.app
        self._executor = executor
        self._tasks = fleet.registry.tasks_on(queue.queue)
        self._patience = Patience(fleet.ctx.loggers.app.bind(part=self.name))
        self._ended: list[tuple[Run, Outcome]] = []
        self._busy: list[tuple[Run, Outcome]] = []
        self._busy_pause_s = 0.0
        self._active = 0
        fleet.ctx.listener.subscribe("queue", self._on_notification)

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._active

    async def run(self, stop: asyncio.Event) -> None:
        """Work until the fleet drains and nothing is left to settle, or until told to stop at once."""
        while not stop.is_set():
            pause_s = await self._turn()
            if self._fleet.draining.is_set() and not self._active:
                return
            await self.wake.wait(pause_s)

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Take the outcome of a run; it is settled with the worker's next exchange. Only the first one counts."""
        if run.ended:
            return
        run.ended = True
        self._ended.append((run, outcome))
        self.wake.set()

    def _on_notification(self, queue: str) -> None:
        if queue in {self.queue, "*"}:
            self.wake.set()

    async def _turn(self) -> float:
        """Exchange with the database; return how long to wait for the next reason to."""
        try:
            await self._exchange()
        except Exception as error:  # noqa: BLE001 - a retry boundary: what does not pass is raised again
            self._ctx.metrics.database_error("control")
            return self._patience.failed(error)
        self._patience.ok()
        pause_s = self._ctx.settings.dl_poll_sec / 2 * random.uniform(0.6, 1.0)  # noqa: S311 - jitter
        self._busy_pause_s = min(max(2 * self._busy_pause_s, BUSY_PAUSE_S), pause_s) if self._busy else 0.0
        return self._busy_pause_s or pause_s

    async def _exchange(self) -> None:
        while True:
            await self._settle()
            free = self.concurrency - self._active
            if free <= 0:
                return
            async with self._fleet.turn:
                if not self._fleet.may_claim():
                    return
                claimed = await self._claim(free)
            if claimed < free and len(self._ended) == len(self._busy):
                return

    async def _claim(self, limit: int) -> int:
        sent_s = time.monotonic()
        jobs = await self._fleet.control.claim(self.queue, self._tasks, limit=limit, idle=not len(self._fleet.runs))
        if jobs:
            self._executor.start([self._enter(job, sent_s) for job in jobs])
            self._ctx.metrics.running(self.queue, self._active)
        return len(jobs)

    def _enter(self, job: ClaimedJob, sent_s: float) -> Run:
        run = Run(job, self._fleet.registry.get(job.task), claim_sent_s=sent_s)
        self._fleet.start(run)
        self._active += 1
        self._ctx.metrics.claimed(job.queue, job.task, (job.started_at - job.available_at).total_seconds())
        return run

    async def _settle(self) -> None:
        """Write what ended; it stays here until the database has taken it."""
        batch = list(self._ended)
        if not batch:
            return
        settlements = [one for run, outcome in batch if (one := settlement(run.lease, outcome, run.progress()))]
        statuses = await self._write(settlements)
        self._busy = [(run, outcome) for run, outcome in batch if statuses.get(run.lease) == JobStatus.RUNNING]
        self._ended[: len(batch)] = self._busy
        for run, outcome in batch:
            status = statuses.get(run.lease)
            if status != JobStatus.RUNNING:
                self._close(run, outcome, status if status in ENDS[type(outcome)] else None)

    async def _write(self, settlements: list[Settlement]) -> dict[Lease, str]:
        """Settle; return the statuses, `running` for a run whose row somebody else has locked, none for a lost lease.

        A run that is missing from the answer may also have ended by an earlier try that broke off without one.
        """
        if not settlements:
            return {}
        statuses = {one.lease: one.status.value for one in await self._fleet.control.settle(settlements)}
        missing = [one.lease for one in settlements if one.lease not in statuses]
        return statuses | (await self._fleet.control.fates(missing) if missing else {})

    def _close(self, run: Run, outcome: Outcome, status: str | None) -> None:
        self._fleet.end(run)
        self._active -= 1
        self._ctx.metrics.running(self.queue, self._active)
        run_s = round(time.monotonic() - run.started_s, 3)
        facts = {"job_id": str(run.lease.job_id), "task": run.job.task, "queue": self.queue, "epoch": run.lease.epoch}
        if status is None:
            reason = outcome.reason if isinstance(outcome, Abandoned) else "lease lost"
            self._ctx.metrics.lease_lost("fenced")
            self._logger.warning("run was fenced, its result is dropped", **facts, reason=reason, run_s=run_s)
            return
        self._ctx.metrics.settled(run.job.queue, run.job.task, status, run_s)
        self._ctx.loggers.metric.info("job run", **facts, status=status, run_s=run_s, rows=run.rows)
        self._logger.info("job settled", **facts, outcome=type(outcome).__name__.lower(), status=status, run_s=run_s)
