"""A queue's worker: wake, settle what ended, claim for free slots, start runs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Iterable
from typing import NamedTuple

from dataloader.config import QueueWorkers
from dataloader.domain.jobs import ClaimedJob
from dataloader.storage.repositories.queue import Claim
from dataloader.storage.repositories.rows import Exchanged
from dataloader.workers.endings import Ending, Endings, Slots, parted
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
    return known if queue.tasks is None else [name for name in dict.fromkeys(queue.tasks) if name in registry]


class Sent(NamedTuple):
    """An exchange that is under way.

    Attributes:
        batch: Runs whose ends it writes.
        at_s: Monotonic time at which it was sent.
    """

    batch: list[Ending]
    claim: Claim | None
    at_s: float
    answer: Awaitable[Exchanged]


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
        self._ahead: Sent | None = None
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
            await self._drop_ahead()
            await self._endings.close()
            asyncio.get_running_loop().call_soon(self._log.close)

    def finished(self, endings: Iterable[Ending]) -> None:
        """Take outcomes of runs; their ends are written as soon as may be. Only the first one of each counts."""
        self._endings.add(endings)

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
            pause_s = self._patience.failed(error)
            return pause_s if self._ahead is None else 0.0
        self._patience.ok()
        pause_s = self._ctx.settings.dl_poll_sec / 2 * random.uniform(0.6, 1.0)  # noqa: S311 - jitter
        self._busy_pause_s = min(max(2 * self._busy_pause_s, BUSY_PAUSE_S), pause_s) if self._endings.busy else 0.0
        return self._busy_pause_s or min(pause_s, self._low_water.pause_s(time.monotonic()) or pause_s)

    async def _exchange(self) -> bool:
        """Settle and claim; return whether there is more to do of either."""
        sent = None
        try:
            async with self._fleet.turn:
                sent = self._take_ahead() or self._send()
                if sent is None:
                    return False
                exchanged = await sent.answer
                full = sent.claim is not None and len(exchanged.rows) == sent.claim.limit
                await self._begin(sent, exchanged, full=full)
            if sent.batch:
                await self._endings.written(sent.batch, exchanged.settled)
        except BaseException:
            self._endings.put_back(sent.batch if sent else [])
            raise
        return full or self._ahead is not None or not self._endings.idle

    async def _begin(self, sent: Sent, exchanged: Exchanged, *, full: bool) -> None:
        """Start what was claimed; where there is more to claim, the database is told first."""
        self._slots.active += len(exchanged.rows)
        if sent.claim and exchanged.reached:
            self._low_water.reached(sent.claim.after, exchanged.reached, time.monotonic())
        try:
            if full and sent.claim and self._may_go_ahead(sent.claim, exchanged):
                await self._send_ahead()
        finally:
            jobs = exchanged.claimed()
            if jobs:
                self._executor.start([self._enter(job, sent.at_s) for job in jobs])
            # What is only said of jobs can wait until the database works on the next exchange.
            asyncio.get_running_loop().call_soon(self._note, jobs)

    def _may_go_ahead(self, claim: Claim, exchanged: Exchanged) -> bool:
        """Return whether the next claim may be sent before these jobs are entered: none of them is to run alone."""
        if claim.limit < CLAIM_LIMIT or claim.idle or self._endings.failed:
            return False
        return not any(row["losses"] for row in exchanged.rows)

    def _send(self, *, idle: bool = True) -> Sent | None:
        """Return an exchange with the database, if there is a reason for one."""
        batch = self._endings.take()
        claim = self._wanted(len(batch) + self._endings.leaving, idle=idle)
        if claim is None and not batch:
            return None
        settlements, succeeded = parted(batch)
        answer = self._fleet.control.exchange(settlements, claim, succeeded=succeeded)
        return Sent(batch, claim, time.monotonic(), answer)

    async def _send_ahead(self) -> None:
        """Begin the next exchange before the answer to this one is read."""
        sent = self._send(idle=False)
        if sent is not None:
            self._ahead = sent._replace(answer=asyncio.ensure_future(sent.answer))
            self._fleet.ahead += 1
            await asyncio.sleep(0)

    def _take_ahead(self) -> Sent | None:
        sent, self._ahead = self._ahead, None
        if sent is not None:
            self._fleet.ahead -= 1
        return sent

    async def _drop_ahead(self) -> None:
        if (sent := self._take_ahead()) is not None:
            asyncio.ensure_future(sent.answer).cancel()
            await asyncio.gather(sent.answer, return_exceptions=True)

    def _wanted(self, ending: int, *, idle: bool) -> Claim | None:
        """Return what to claim; runs whose end is written with the same statement, or beside it, leave their slots."""
        free = self._slots.concurrency - self._slots.active + ending
        if free <= 0 or not self._fleet.may_claim():
            return None
        idle = idle and len(self._fleet.runs) == ending and not self._fleet.ahead
        after = self._low_water.after(time.monotonic())
        return Claim(self.queue, self._tasks, min(free, CLAIM_LIMIT), self._ctx.process_id, idle, after)

    def _note(self, jobs: list[ClaimedJob]) -> None:
        self._log.claimed(jobs)
        self._log.flush(self._slots.active)

    def _enter(self, job: ClaimedJob, sent_s: float) -> Run:
        run = Run(job, self._fleet.registry.get(job.task), claim_sent_s=sent_s)
        self._fleet.start(run)
        return run
