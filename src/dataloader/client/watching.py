"""Following a job to its end, over restarts of the service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from dataloader.api.v1.schemas import JobStatusView
from dataloader.exceptions import UnavailableError

Look = Callable[[float], Awaitable[JobStatusView]]


@dataclass(frozen=True, slots=True)
class Watch:
    """How a job is followed.

    Attributes:
        look: Asks for the job's state; the service may hold the answer back for the given seconds.
        period_s: Longest time between two states.
        outage_s: How long the service may be away before the watch gives up.
        on_outage: Told why there is no answer, at every failed look.
    """

    look: Look
    period_s: float
    outage_s: float
    on_outage: Callable[[UnavailableError], None] | None = None

    async def states(self) -> AsyncIterator[JobStatusView]:
        """Yield the job's state now, then after every period, and last the one it ended with.

        Raises:
            UnavailableError: The service was away for too long.
        """
        clock = asyncio.get_running_loop().time
        hold_s, heard_s = 0.0, clock()
        while True:
            asked_s = clock()
            try:
                state = await self.look(hold_s)
            except UnavailableError as error:
                if clock() - heard_s > self.outage_s:
                    raise
                self._tell(error)
            else:
                heard_s = clock()
                yield state
                if state.status.is_finished:
                    return
            early_s = asked_s + hold_s - clock()
            hold_s = self.period_s
            if early_s > 0:
                await asyncio.sleep(min(early_s, self.period_s))

    def _tell(self, error: UnavailableError) -> None:
        if self.on_outage is not None:
            self.on_outage(error)
