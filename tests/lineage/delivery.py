"""Runs that only the audit log knows, and deliveries that tell of them without waiting for the clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dataloader.config import Settings
from dataloader.context import open_context
from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection, connect
from dataloader.workers.lineage import Lineage, Timing
from tests.storage.scene import running, settle_surely
from tests.workers.harness import eventually

QUICK = Timing(period_s=0.001, send_s=5, note_s=5, hold_s=60)


@dataclass
class Teller:
    """A delivery that looks for events when it is told to.

    Attributes:
        part: The delivery.
        clock: A connection that moves the mark's time.
        metrics: What its process counts, as text.
    """

    part: Lineage
    clock: Connection
    metrics: Callable[[], str]

    async def look(self) -> None:
        """Look for events once, as if two seconds had passed since the last time."""
        await self.clock.execute("update dl_lineage set mark_at = mark_at - interval '2 seconds'")
        await self.part.step()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Look for events until something holds."""

        async def looked() -> bool:
            await self.look()
            return holds()

        await eventually(looked)


@asynccontextmanager
async def telling_of_runs(settings: Settings, timing: Timing = QUICK) -> AsyncIterator[Teller]:
    """Open a delivery to the address of the settings; the first one tells only of what happens from now on."""
    assert settings.dl_lineage_url is not None
    clock = await connect(settings, purpose="test")
    async with open_context(settings) as ctx:
        part = Lineage(ctx, settings.dl_lineage_url.get_secret_value(), timing=timing)
        await part.step()
        try:
            yield Teller(part, clock, lambda: ctx.metrics.render().decode())
        finally:
            await part.close()
            await clock.close()


async def run(pg: Connection, count: int = 1) -> None:
    """Let runs happen, one after another, as the audit log knows them: each is claimed and succeeds."""
    for _ in range(count):
        await settle_surely(pg, await running(pg), SettleKind.SUCCEEDED)
