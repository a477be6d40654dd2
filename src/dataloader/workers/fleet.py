"""What the workers of a process share, and when they may claim."""

from __future__ import annotations

import asyncio
import time

from dataloader.context import AppContext
from dataloader.workers.control import Control
from dataloader.workers.freed_keys import FreedKeys
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.runs import Run, RunTable, StopReason


class Fleet:
    """What the workers of a process share.

    Attributes:
        control: Claims, and settles with the same statement.
        settler: Settles large batches.
        freed: Told of the keys that runs leave.
        runs: Every run of the process, of all queues.
        draining: Set when the process is to end: claim no more.
        blocked: Whether a pipeline keeps the executor's loop from running others.
        turn: Held from the decision to claim until what was claimed is entered.
        ahead: Claims that are under way while nobody holds the turn.
    """

    def __init__(
        self, ctx: AppContext, registry: Registry, *, control: Control, settler: Control, freed: FreedKeys
    ) -> None:
        self.ctx = ctx
        self.freed = freed
        self.registry = registry
        self.control = control
        self.settler = settler
        self.runs = RunTable()
        self.draining = asyncio.Event()
        self.blocked = False
        self.turn = asyncio.Lock()
        self.ahead = 0
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
