"""Offers the next job of every key that a run has left, beside the exchanges."""

from __future__ import annotations

import asyncio

from dataloader.context import AppContext
from dataloader.domain.jobs import Keys
from dataloader.workers.control import Control
from dataloader.workers.periodic import Periodic

CLOSE_TIMEOUT_S = 1.0


class FreedKeys(Periodic):
    """Promotes keys soon after they became free, many at once under load; the sweep finds what this part could not.

    Args:
        ctx: The process.
        control: Connection to work on, of its own: the next exchange does not wait for a promotion.
    """

    name = "freed keys"

    def __init__(self, ctx: AppContext, control: Control) -> None:
        self._logger = ctx.loggers.app.bind(part=self.name)
        super().__init__(period_s=ctx.settings.dl_poll_sec, logger=self._logger)
        self._control = control
        self._locks: set[str] = set()
        self._partitions: set[str] = set()

    def offer(self, keys: Keys) -> None:
        """Take keys that are free now."""
        if keys:
            self._locks |= keys.locks
            self._partitions |= keys.partitions
            self.wake.set()

    async def step(self) -> None:
        """Promote what has come."""
        keys = Keys(frozenset(self._locks), frozenset(self._partitions))
        self._locks.clear()
        self._partitions.clear()
        if not keys:
            return
        try:
            await self._control.promote(keys)
        except BaseException:
            self.offer(keys)
            raise

    async def close(self) -> None:
        """Promote what came last, so that other processes can go on with it, and close the connection."""
        try:
            await asyncio.wait_for(self._turn(), CLOSE_TIMEOUT_S)
        except TimeoutError:
            self._logger.debug("promotion put off, the sweep will find it")
        finally:
            await self._control.close()
