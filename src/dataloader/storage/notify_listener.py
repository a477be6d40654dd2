"""LISTEN on a connection of its own: probed, rebuilt when it breaks, and never the only way to learn something."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable

import asyncpg

from dataloader.base import first_of, wait_for
from dataloader.config import Settings
from dataloader.exceptions import DatabaseAwayError
from dataloader.logger import Logger
from dataloader.storage.db import Connection, connect, direct_dsn, translated
from dataloader.storage.queries import channel

ANYTHING = "*"
"""The value that subscribers get after a reconnect: notifications may have been missed, look at once."""

PROBE_PERIOD_S = 10.0
PROBE_TIMEOUT_S = 5.0
RETRY_MIN_S = 0.1
RETRY_MAX_S = 5.0

Subscriber = Callable[[str], None]


class NotifyListener:
    """Fans notifications out to subscribers of a kind; payloads read `kind:value`.

    Args:
        settings: Where to connect; `DL_LISTEN_DSN` names a direct connection, `none` turns listening off.
        logger: Says when the listener is lost and back.
        probe_s: Seconds between two probes.
        patience_s: Seconds that the server may take to answer.
    """

    name = "listener"

    def __init__(
        self,
        settings: Settings,
        logger: Logger,
        *,
        probe_s: float = PROBE_PERIOD_S,
        patience_s: float = PROBE_TIMEOUT_S,
    ) -> None:
        listen = settings.dl_listen_dsn
        self._settings = settings
        self._enabled = listen is None or listen.get_secret_value() != "none"
        self._dsn = direct_dsn(settings)
        self._channel = channel(settings.pg_schema)
        self._logger = logger
        self._probe_s = probe_s
        self._patience_s = patience_s
        self._subscribers: defaultdict[str, list[Subscriber]] = defaultdict(list)
        self._own_pids: dict[str, int] = {}
        self.connected = False

    def subscribe(self, kind: str, subscriber: Subscriber) -> None:
        """Call `subscriber` with the value of every notification of this kind, and with `ANYTHING` after a gap."""
        self._subscribers[kind].append(subscriber)

    def ignore(self, purpose: str, pid: int) -> None:
        """Drop what this server process sends: it works for this process, whose subscribers are told directly.

        Args:
            purpose: What the connection is for; only the latest one of a purpose counts.
            pid: The server process.
        """
        self._own_pids[purpose] = pid

    def dispatch(self, payload: str) -> None:
        """Tell the subscribers of one payload."""
        kind, _, value = payload.partition(":")
        for subscriber in self._subscribers.get(kind, ()):
            subscriber(value)

    async def run(self, stop: asyncio.Event) -> None:
        """Listen until told to stop; after every gap the subscribers look for themselves."""
        if not self._enabled:
            await stop.wait()
            return
        pause_s = RETRY_MIN_S
        while not stop.is_set():
            try:
                with translated():
                    await self._listen(stop)
            except (DatabaseAwayError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                pause_s = RETRY_MIN_S if self.connected else pause_s
                if pause_s == RETRY_MIN_S:
                    self._logger.warning("listener lost, polling meanwhile", reason=str(error))
                await wait_for(stop, pause_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
                pause_s = min(pause_s * 2, RETRY_MAX_S)
            finally:
                self.connected = False

    async def _listen(self, stop: asyncio.Event) -> None:
        connection = await connect(
            self._settings, purpose="listener", dsn=self._dsn, command_timeout_s=self._patience_s
        )
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, self._on_notification)
            await self._probe(connection)
            self.connected = True
            self._tell_all()
            await self._probe_until_lost(connection, stop, lost)
        finally:
            connection.terminate()

    async def _probe_until_lost(self, connection: Connection, stop: asyncio.Event, lost: asyncio.Event) -> None:
        while not stop.is_set():
            await first_of(stop, lost, timeout_s=self._probe_s)
            if lost.is_set():
                raise DatabaseAwayError("the listening connection ended")
            if not stop.is_set():
                await self._probe(connection)

    async def _probe(self, connection: Connection) -> None:
        if not await connection.fetchval("select count(*) from pg_listening_channels()"):
            raise DatabaseAwayError(
                "the server knows nothing of this listener: a pooler took its LISTEN; point DL_LISTEN_DSN at the server"
            )

    def _on_notification(self, _connection: object, pid: int, _channel: str, payload: object) -> None:
        if pid not in self._own_pids.values():
            self.dispatch(str(payload))

    def _tell_all(self) -> None:
        for kind in self._subscribers:
            self.dispatch(f"{kind}:{ANYTHING}")
