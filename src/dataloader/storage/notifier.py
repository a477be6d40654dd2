"""NOTIFY after the commit, from one connection: at once when idle, coalesced under load."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

import asyncpg

from dataloader.base import relayed, wait_for
from dataloader.config import Settings
from dataloader.exceptions import DatabaseAwayError
from dataloader.logger import Logger
from dataloader.storage.db import PinnedConnection
from dataloader.storage.queries import channel

COALESCE_S = 0.01
BULK_S = 0.05
"""Least time between two words of what goes on in bulk: each costs the server and every listener a wake-up."""


class Notifier:
    """Announces what has been committed, to this process directly and to the others through PostgreSQL.

    An announcement that is lost costs one poll: nothing is retried.

    Args:
        settings: Where to connect.
        tell_here: Called with every payload for subscribers of this process.
        own_pid: Told which server process sends from here, so that the listener need not hear it again.
        logger: Says when announcements are lost.
    """

    name = "notifier"

    def __init__(
        self,
        settings: Settings,
        *,
        tell_here: Callable[[str], None],
        own_pid: Callable[[str, int], None],
        logger: Logger,
    ) -> None:
        self._pinned = PinnedConnection(settings, purpose="notifier")
        self._channel = channel(settings.pg_schema)
        self._tell_here = tell_here
        self._own_pid = own_pid
        self._logger = logger
        self._pending: set[str] = set()
        self._wake = asyncio.Event()
        self._flushed_s = -math.inf
        self._later: asyncio.TimerHandle | None = None

    def announce(self, payloads: Iterable[str], *, here_only: bool = False, in_bulk: bool = False) -> None:
        """Announce payloads; call it after the commit they speak of, on the loop that runs this component.

        Args:
            payloads: What to say.
            here_only: Whether the other processes have heard it already.
            in_bulk: Whether there will soon be the same to say again; under load the others hear of it a little later.
        """
        said = list(payloads)
        for payload in said:
            self._tell_here(payload)
        if here_only or not said:
            return
        self._pending.update(said)
        if not in_bulk:
            self._wake.set()
        elif self._later is None:
            loop = asyncio.get_running_loop()
            self._later = loop.call_at(max(self._flushed_s + BULK_S, loop.time()), self._wake.set)

    async def run(self, stop: asyncio.Event) -> None:
        """Send what is pending until told to stop, then what is left."""
        try:
            async with relayed(stop, self._wake):
                while not stop.is_set():
                    await self._wake.wait()
                    await self._flush()
                    await wait_for(stop, COALESCE_S)
            await self._flush()
        finally:
            await self._pinned.close()

    async def _flush(self) -> None:
        self._wake.clear()
        if self._later is not None:
            self._later.cancel()
            self._later = None
        payloads, self._pending = sorted(self._pending), set()
        if not payloads:
            return
        self._flushed_s = asyncio.get_running_loop().time()
        try:
            async with self._pinned.use() as connection:
                self._own_pid(self.name, connection.get_server_pid())
                await connection.execute("select pg_notify($1, p) from unnest($2::text[]) p", self._channel, payloads)
        except (DatabaseAwayError, asyncpg.PostgresError) as error:
            self._logger.debug("announcement lost, polls will find it", reason=str(error))
