"""A queue's worker: wake, settle what ended, claim for free slots, start runs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping

from dataloader.config import QueueWorkers
from dataloader.context import AppContext
from dataloader.domain.jobs import ClaimedJob, JobStatus, Lease
from dataloader.domain.outcomes import ENDS, Outcome, Succeeded, settlement
from dataloader.storage.repositories.queue import Claim
from dataloader.storage.repositories.rows import Exchanged, Released
from dataloader.workers.control import Control
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.freed_keys import FreedKeys
from dataloader.workers.low_water import LowWater
from dataloader.workers.periodic import Patience, Wake
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.run_log import RunLog
from dataloader.workers.runs import Run, RunTable, StopReason

BUSY_PAUSE_S = 0.01
"""First pause before a row that is locked by somebody else is tried again; it doubles."""


CLAIM_LIMIT = 500
"""Most jobs of one claim: while those run, the database answers the next one."""


class Fleet:
    """What the workers of a process share.

    Attributes:
        freed: Told of the keys that runs leave.
        runs: Every run of the process, of all queues.
        draining: Set when the process is to end: claim no more.
        blocked: Whether a pipeline keeps the executor's loop from running others.
        turn: Held from the decision to claim until what was claimed is entered.
    """

    def __init__(self, ctx: AppContext, registry: Registry, control: Control, freed: FreedKeys) -> None:
        self.ctx = ctx
        self.freed = freed
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
        self._suspects = {
            run for run in self._suspects if not run.ended and not run.advanced and run.started_s > harmless_s
        }
        return not self._suspects


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
        self.concurrency = queue.concurrency
        self.wake = Wake()
        self._fleet = fleet
        self._ctx = fleet.ctx
        self._logger = fleet.ctx.loggers.app
        self._executor = executor
        self._tasks = tasks_of(queue, fleet.registry)
        self._patience = Patience(fleet.ctx.loggers.app.bind(part=self.name))
        self._ended: list[tuple[Run, Outcome]] = []
        self._busy: list[tuple[Run, Outcome]] = []
        self._busy_pause_s = 0.0
        self._active = 0
        self._log = RunLog(fleet.ctx, queue.queue)
        self._low_water = LowWater()
        fleet.ctx.listener.subscribe("queue", self._on_notification)

    @property
    def active(self) -> int:
        """Slots in use."""
        return self._active

    async def run(self, stop: asyncio.Event) -> None:
        """Work until the fleet drains and nothing is left to settle, or until told to stop at once."""
        try:
            while not stop.is_set():
                pause_s = await self._turn()
                if self._fleet.draining.is_set() and not self._active:
                    return
                await self.wake.wait(pause_s)
        finally:
            asyncio.get_running_loop().call_soon(self._log.close)

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
        return self._busy_pause_s or min(pause_s, self._low_water.pause_s(time.monotonic()) or pause_s)

    async def _exchange(self) -> None:
        """Settle and claim until there is nothing more to do of either."""
        while True:
            batch = list(self._ended)
            async with self._fleet.turn:
                wanted = self._wanted(len(batch))
                if wanted is None and not batch:
                    return
                sent_s = time.monotonic()
                settled, jobs, reached = await self._send(batch, wanted)
                if wanted and reached:
                    self._low_water.reached(wanted.after, reached, time.monotonic())
                if jobs:
                    self._executor.start([self._enter(job, sent_s) for job in jobs])
            # What is only said of jobs can wait until the database works on the next exchange.
            asyncio.get_running_loop().call_soon(self._log.claimed, jobs)
            self._fleet.freed.offer(self._fleet.control.announce_end(settled))
            statuses = await self._let_go(batch, settled)
            asyncio.get_running_loop().call_soon(self._note, batch, statuses, settled)
            if (wanted is None or len(jobs) < wanted.limit) and len(self._ended) == len(self._busy):
                return

    async def _send(self, batch: list[tuple[Run, Outcome]], wanted: Claim | None) -> Exchanged:
        succeeded, settlements = [], []
        for run, outcome in batch:
            progress = run.progress()
            if progress is None and type(outcome) is Succeeded and outcome.result is None:
                succeeded.append(run.lease)
            elif one := settlement(run.lease, outcome, progress):
                settlements.append(one)
        return await self._fleet.control.exchange(settlements, wanted, succeeded=succeeded)

    def _wanted(self, ending: int) -> Claim | None:
        """Return what to claim; runs whose end is written with the same statement leave their slots."""
        free = self.concurrency - self._active + ending
        if free <= 0 or not self._fleet.may_claim():
            return None
        idle = len(self._fleet.runs) == ending
        after = self._low_water.after(time.monotonic())
        return Claim(self.queue, self._tasks, min(free, CLAIM_LIMIT), self._ctx.process_id, idle, after)

    def _enter(self, job: ClaimedJob, sent_s: float) -> Run:
        run = Run(job, self._fleet.registry.get(job.task), claim_sent_s=sent_s)
        self._fleet.start(run)
        self._active += 1
        return run

    async def _let_go(self, batch: list[tuple[Run, Outcome]], settled: list[Released]) -> dict[Lease, JobStatus]:
        """Free the slots of runs whose end is written; return what became of the jobs.

        A run whose row somebody else has locked stays, and is settled later. One that is missing from the answer may
        also have ended by an earlier try that broke off without one.
        """
        statuses = {one.lease: one.status for one in settled}
        self._busy, gone = [], batch
        if len(settled) < len(batch):
            statuses |= await self._fates(batch, statuses)
            self._busy = [(run, outcome) for run, outcome in batch if statuses.get(run.lease) is JobStatus.RUNNING]
            gone = [(run, outcome) for run, outcome in batch if statuses.get(run.lease) is not JobStatus.RUNNING]
        self._ended[: len(batch)] = self._busy
        self._active -= len(gone)
        for run, _ in gone:
            self._fleet.end(run)
        return statuses

    def _note(
        self, batch: list[tuple[Run, Outcome]], statuses: Mapping[Lease, JobStatus], settled: list[Released]
    ) -> None:
        """Count and log what became of runs; where we did not write their end, another status is another's doing."""
        now_s = time.monotonic()
        for run, outcome in batch:
            status = statuses.get(run.lease)
            if status is JobStatus.RUNNING:
                continue
            ours = status in ENDS[type(outcome)] or run.lease in (one.lease for one in settled)
            if status is not None and ours:
                self._log.settled(run, outcome, status, now_s)
            else:
                self._log.fenced(run, outcome, now_s)
        self._log.flush(self._active)

    async def _fates(
        self, batch: list[tuple[Run, Outcome]], known: Mapping[Lease, JobStatus]
    ) -> dict[Lease, JobStatus]:
        missing = [run.lease for run, outcome in batch if run.lease not in known and ENDS[type(outcome)]]
        fates = await self._fleet.control.fates(missing) if missing else {}
        return {lease: JobStatus(status) for lease, status in fates.items()}
