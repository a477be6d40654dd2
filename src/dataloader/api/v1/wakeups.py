"""What follows a commit: keys are promoted, workers and waiting requests are told; polls find whatever is lost here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import asyncpg
from sqlalchemy.exc import SQLAlchemyError

from dataloader.api.database import Database
from dataloader.context import AppContext
from dataloader.domain.jobs import Keys
from dataloader.exceptions import DataloaderError
from dataloader.storage.repositories.promotion import PromotionRepository

PROMOTE_BUDGET_S = 3.3
"""What is not promoted within this time, a little more than the statement's lock timeout, is left to the sweep."""

_LEFT_TO_THE_SWEEP = (DataloaderError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class WakeUps:
    """Brings news of committed changes to whoever waits for them.

    Args:
        ctx: The process; its notifier speaks to the others.
        database: Where keys are promoted.
    """

    def __init__(self, ctx: AppContext, database: Database) -> None:
        self._notifier = ctx.notifier
        self._logger = ctx.loggers.app
        self._database = database
        self._promotion = PromotionRepository(ctx.settings.pg_schema)

    async def send(
        self,
        *,
        queues: Iterable[str] = (),
        keys: Keys = Keys(),  # noqa: B008 - frozen
        also: Iterable[str] = (),
    ) -> None:
        """Promote keys, then announce every queue that may have got a job; no error of the database leaves this.

        What this speaks of is committed: its caller must be told so, and the sweep does what is not done here.

        Args:
            queues: Queues with jobs that were ready at once.
            keys: Keys whose turn may have changed.
            also: Further payloads.
        """
        names = set(queues) | await self._promote(keys)
        self._notifier.announce([*(f"queue:{name}" for name in sorted(names)), *also])
        await asyncio.sleep(0)
        await self.give_way()

    async def give_way(self) -> None:
        """Let whoever was woken here go first: it writes its statement in a turn of the loop, which sends it then."""
        await asyncio.sleep(0)

    async def _promote(self, keys: Keys) -> set[str]:
        if not keys:
            return set()
        try:
            async with self._database.driver(PROMOTE_BUDGET_S) as connection:
                return set(await self._promotion.promote(connection, keys))
        except _LEFT_TO_THE_SWEEP as error:
            self._logger.warning("keys left to the sweep", error=type(error).__name__, reason=str(error))
            self._notifier.announce(["promote"])
            return set()
