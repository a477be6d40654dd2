"""Ends runs that are to end: the three clocks, and the ladder from a polite request to an expiring lease."""

from __future__ import annotations

import asyncio
import time

from dataloader.context import AppContext
from dataloader.domain.jobs import Lease
from dataloader.workers.control import Control
from dataloader.workers.executors.inline import InlineExecutor
from dataloader.workers.fleet import Fleet
from dataloader.workers.leases import LeaseKeeper
from dataloader.workers.periodic import Periodic
from dataloader.workers.runs import FINAL_STAGE, Run, StopReason

PERIOD_S = 0.1
CANCEL_TIMEOUT_S = 2.0
BLOCKED_S = 1.0
"""A loop that gives no sign of life for longer is blocked; its process claims nothing meanwhile."""
_CANCELLED = 1
_POLITE = frozenset({StopReason.HAND_OVER, StopReason.CANCEL})


class Watchdog(Periodic):
    """Looks at every run ten times a second; one that has ended and waits to be written is left alone.

    A run that was asked to stop ends at its next safe point. After `DL_CANCEL_GRACE_SEC` its task is cancelled, and its
    statement on the server with it; after as long again its lease is renewed no more, so that the row ends fenced.
    A run past a clock, or whose lease is gone, is cancelled without the first wait.

    Args:
        ctx: The process.
        fleet: Its runs are watched; told when the executor's loop is blocked.
        executor: Where they run.
        leases: Checked for life; it renews leases.
        control: Connection to cancel statements on.
    """

    name = "watchdog"

    def __init__(
        self, ctx: AppContext, fleet: Fleet, *, executor: InlineExecutor, leases: LeaseKeeper, control: Control
    ) -> None:
        logger = ctx.loggers.app.bind(part=self.name)
        super().__init__(period_s=min(PERIOD_S, ctx.settings.dl_cancel_grace_sec / 4), logger=logger)
        self._ctx = ctx
        self._fleet = fleet
        self._runs = fleet.runs
        self._executor = executor
        self._leases = leases
        self._control = control
        self._logger = logger
        self._grace_s = ctx.settings.dl_cancel_grace_sec
        self._to_cancel: list[Lease] = []

    async def step(self) -> None:
        """Look at every run once."""
        self._leases.check()
        lag_s = self._executor.ping()
        self._fleet.blocked = lag_s > BLOCKED_S
        self._ctx.metrics.loop_lag("pipelines", lag_s)
        now_s = time.monotonic()
        for run in self._runs:
            if run.ended:
                continue
            if run.clocked:
                self._check_clocks(run, now_s)
            if run.stop is not None:
                self._push(run, now_s)
        leases, self._to_cancel = self._to_cancel, []
        if leases:
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                await self._control.cancel_statements(leases)

    async def close(self) -> None:
        """Close the connection."""
        await self._control.close()

    def _check_clocks(self, run: Run, now_s: float) -> None:
        if run.stop is not None:
            return
        if run.timeout_s is not None and now_s - run.started_s > run.timeout_s:
            run.request_stop(StopReason.TIMEOUT)
        elif run.stall_timeout_s is not None and now_s - run.touched_s > run.stall_timeout_s:
            run.request_stop(StopReason.STALL)

    def _push(self, run: Run, now_s: float) -> None:
        waited_s = now_s - (run.stop_since_s or now_s)
        patience_s = self._grace_s if run.stop in _POLITE else 0.0
        if run.stop is StopReason.HAND_OVER:
            return
        if run.pushed < _CANCELLED and waited_s >= patience_s:
            run.pushed = _CANCELLED
            self._executor.cancel(run)
            self._to_cancel.append(run.lease)
        elif run.pushed < FINAL_STAGE and waited_s >= patience_s + self._grace_s:
            run.pushed = FINAL_STAGE
            self._logger.error(
                "run does not stop; its lease is left to expire",
                job_id=str(run.lease.job_id),
                task=run.job.task,
                reason=run.stop.name.lower() if run.stop else None,
            )
