"""Makes waiting jobs claimable when they are due and their key is free; finds what nobody announced."""

from __future__ import annotations

import time

from dataloader.context import AppContext
from dataloader.workers.control import Control
from dataloader.workers.periodic import Periodic

KEYS_PER_SCAN = 200
DUE_BATCHES_PER_STEP = 50
"""Bounds one step, so that keys have their turn too; the connection is free for others between two batches."""
OVERLAP_S = 2.0


class Promoter(Periodic):
    """Promotes due jobs, keyed jobs that became due, and a few keys of a scan that goes round all of them.

    The scan takes its time; every `DL_CLAIM_BACKOFF_SEC` it goes round at once, so that a key waits no longer than that
    even when every notification is lost.

    Args:
        ctx: The process; its listener wakes this part when plain SQL added keyed jobs.
        control: Connection to work on.
    """

    name = "promoter"

    def __init__(self, ctx: AppContext, control: Control) -> None:
        super().__init__(period_s=ctx.settings.dl_poll_sec / 2, logger=ctx.loggers.app.bind(part=self.name))
        self._control = control
        self._looked_s: float | None = None
        self._cursor = ("", "")
        self._round_s = time.monotonic()
        self._backoff_s = ctx.settings.dl_claim_backoff_sec
        ctx.listener.subscribe("promote", self.wake.set)

    async def step(self) -> None:
        """Promote once."""
        started_s = time.monotonic()
        window_s = OVERLAP_S if self._looked_s is None else started_s - self._looked_s + OVERLAP_S
        for _ in range(DUE_BATCHES_PER_STEP):
            if not await self._control.promote_due():
                break
        await self._control.promote_keys_due(window_s=window_s)
        await self._scan(started_s)
        self._looked_s = started_s

    async def _scan(self, now_s: float) -> None:
        self._cursor = await self._control.promote_keys_after(*self._cursor, KEYS_PER_SCAN)
        if now_s - self._round_s >= self._backoff_s:
            while any(self._cursor):
                self._cursor = await self._control.promote_keys_after(*self._cursor, KEYS_PER_SCAN)
        if not any(self._cursor):
            self._round_s = now_s
