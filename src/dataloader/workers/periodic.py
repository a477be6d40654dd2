"""A background part that works in turns: woken or by the clock, patient with a database that is away."""

from __future__ import annotations

import asyncio
import random

from dataloader.base import relayed
from dataloader.logger import Logger
from dataloader.storage.db import is_passing

RETRY_MIN_S = 0.1
RETRY_MAX_S = 2.0


class Wake:
    """Something may have happened: set from the loop that waits, any number of times."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self, _value: str = "") -> None:
        """Wake the waiter; takes a notification's value so that it can subscribe itself."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait until woken or until the time is up; return whether it was woken, and forget it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Patience:
    """How long to pause after a failure that passes; says so once per outage.

    Args:
        logger: Bound to the part.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._pause_s = 0.0

    def ok(self) -> None:
        """Note that the database answers."""
        if self._pause_s:
            self._logger.info("database is back")
        self._pause_s = 0.0

    def failed(self, error: BaseException) -> float:
        """Return how many seconds to pause.

        Raises:
            BaseException: The error itself, when it is not one that passes.
        """
        if not is_passing(error):
            raise error
        if not self._pause_s:
            self._logger.warning("database is away, trying again", reason=str(error) or type(error).__name__)
        self._pause_s = min(max(self._pause_s * 2, RETRY_MIN_S), RETRY_MAX_S)
        return self._pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter


class Periodic:
    """Calls `step` whenever it is woken, and at least once a period.

    Args:
        period_s: Longest time between two steps; the clock's turns are jittered downward, wake-ups are not.
        logger: Bound to the part.
    """

    name = "periodic"

    def __init__(self, *, period_s: float, logger: Logger) -> None:
        self.wake = Wake()
        self._period_s = period_s
        self._patience = Patience(logger)

    async def step(self) -> None:
        """Do one turn of work."""
        raise NotImplementedError

    async def close(self) -> None:
        """Give back what the part held."""

    async def run(self, stop: asyncio.Event) -> None:
        """Take turns until told to stop."""
        try:
            async with relayed(stop, self.wake):
                while not stop.is_set():
                    await self.wake.wait(await self._turn())
        finally:
            await self.close()

    async def _turn(self) -> float:
        try:
            await self.step()
        except Exception as error:  # noqa: BLE001 - a retry boundary: what does not pass is raised again
            return self._patience.failed(error)
        self._patience.ok()
        return self._period_s * random.uniform(0.8, 1.0)  # noqa: S311 - jitter
