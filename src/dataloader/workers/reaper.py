"""Takes back what dead workers held, and removes what is old."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from dataloader.context import AppContext
from dataloader.domain.jobs import JobStatus, Lease
from dataloader.storage.repositories.rows import Released
from dataloader.workers.control import Control
from dataloader.workers.periodic import Periodic

PRUNE_PERIOD_S = 60.0
NAMED = 20
"""Most jobs that one look names in the log although they only wait again."""

_RECONCILE_BEATS = 1.5
_GRACE_BEATS = 2.0
_LOOKS_PER_LEASE = 4
"""Fewer, and looks that are half a lease apart would be taken for an outage in which nobody could renew."""


class Reaper(Periodic):
    """Reaps expired leases, and gives back claims of this process that it never heard of.

    It measures its own gap: when it could not look for long, neither could live workers renew; it waits for them first.
    It takes only what had expired when it asked for the time: its statement may lie in a frozen server for long.

    Args:
        ctx: The process.
        control: Connection to work on.
        held: Returns the leases this process knows of.
    """

    name = "reaper"

    def __init__(self, ctx: AppContext, control: Control, *, held: Callable[[], Iterable[Lease]]) -> None:
        settings = ctx.settings
        period_s = min(settings.dl_reaper_period_sec, settings.dl_default_lease_ttl_sec / _LOOKS_PER_LEASE)
        super().__init__(period_s=period_s, logger=ctx.loggers.app.bind(part=self.name))
        self._ctx = ctx
        self._control = control
        self._held = held
        self._looked_s: float | None = None
        self._not_before_s = 0.0

    async def step(self) -> None:
        """Reap once, unless live workers must get the chance to renew first."""
        settings = self._ctx.settings
        asked_at = await self._control.server_time()
        await self._control.reconcile(self._held(), age_s=_RECONCILE_BEATS * settings.dl_heartbeat_sec)
        now_s = time.monotonic()
        grace_s = _GRACE_BEATS * settings.dl_heartbeat_sec
        if self._looked_s is None or now_s - self._looked_s > settings.dl_default_lease_ttl_sec / 2:
            self._not_before_s = now_s + grace_s
        self._looked_s = now_s
        if now_s >= self._not_before_s:
            self._log(await self._control.reap(asked_at, grace_s=grace_s))
            if ended := await self._control.terminate_strays(asked_at):
                self._ctx.loggers.app.warning("ended chunks of runs whose lease is gone", backends=ended)

    def _log(self, released: Sequence[Released]) -> None:
        """Count all; of many that wait again after the death of a busy worker, name some and say how many."""
        again: Counter[str] = Counter()
        for one in released:
            self._ctx.metrics.lease_lost("expired")
            if one.status is JobStatus.QUEUED:
                again[one.queue] += 1
                if again.total() > NAMED:
                    continue
            self._ctx.loggers.app.warning(
                "lease expired",
                job_id=str(one.lease.job_id),
                epoch=one.lease.epoch,
                status=one.status.value,
                queue=one.queue,
            )
        if again.total() > NAMED:
            self._ctx.loggers.app.warning("leases expired", count=again.total(), queues=dict(again), named=NAMED)


class Pruner(Periodic):
    """Removes finished jobs after the retention time, and idempotency keys nothing needs, in small batches.

    Args:
        ctx: The process.
        control: Connection to work on, its own: a batch must not hold up a claim.
    """

    name = "pruner"

    def __init__(self, ctx: AppContext, control: Control) -> None:
        logger = ctx.loggers.app.bind(part=self.name)
        super().__init__(period_s=PRUNE_PERIOD_S, logger=logger)
        self._ctx = ctx
        self._control = control
        self._logger = logger

    async def step(self) -> None:
        """Remove one batch; come again at once while there is more."""
        jobs, keys = await self._control.prune(retention_days=self._ctx.settings.dl_retention_days)
        if jobs or keys:
            self._logger.info("pruned", jobs=jobs, keys=keys)
            self.wake.set()

    async def close(self) -> None:
        """Close the connection."""
        await self._control.close()
