"""The embedded server as its users see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self, TypeVar

from dataloader.base import wait_for
from dataloader.embedded.accounts import server_account
from dataloader.embedded.cluster import Cluster
from dataloader.embedded.errors import EmbeddedServerError
from dataloader.embedded.home import PORT, Home
from dataloader.embedded.locks import FileLock, exclusive, is_held
from dataloader.embedded.probe import Answer, ask
from dataloader.embedded.processes import ensure_watchdog, postmaster, require_psutil, stop_server
from dataloader.logger import Logger, Loggers

_PATIENCE_S = 300.0  # crash recovery replays up to a checkpoint's worth of log
_LAUNCHES = 3
_POLL_S = 0.02
_SUPERVISION_PERIOD_S = 0.5
_AFTER_REPAIR_S = 5.0

T = TypeVar("T")


class EmbeddedServer:
    """One use of the server of a data directory: the first user starts it, the last one stops it.

    Any number of processes may use one data directory. What a killed process leaves is cleaned up: by the kernel (its
    locks), by the watchdog (a server nobody uses), and by the next start (everything else).

    Args:
        data_dir: Where data, log and locks lie; created when missing.
        bindir: PostgreSQL's programs; None takes those of the wheel, else the system's.
        database: Created when missing.
        settings: Server settings by name, over the defaults; those of the user who starts the server count.
        logger: Says when something had to be brought back; None for nothing.
    """

    name = "embedded-postgres"

    def __init__(
        self,
        data_dir: Path,
        *,
        bindir: Path | None = None,
        database: str = "dataloader",
        settings: Mapping[str, str] | None = None,
        logger: Logger | None = None,
    ) -> None:
        require_psutil()
        self._home = Home.at(data_dir)
        self._cluster = Cluster(self._home, bindir=bindir, settings=settings or {})
        self._database = database
        self._logger = logger or Loggers.silent().app
        self._users: FileLock | None = None

    @property
    def socket_dir(self) -> Path:
        """Directory of the server's socket, the only way in."""
        return self._home.socket_dir

    @property
    def log(self) -> Path:
        """The server's log file."""
        return self._home.log

    @property
    def is_running(self) -> bool:
        """Whether the server runs, whoever started it."""
        return postmaster(self._home) is not None

    def overrides(self) -> dict[str, object]:
        """Return the settings that lead to this server."""
        return {
            "dl_db_dsn": None,
            "dl_listen_dsn": None,
            "pg_host": str(self.socket_dir),
            "pg_port": PORT,
            "pg_user": "postgres",
            "pg_database": self._database,
        }

    async def start(self) -> Self:
        """Become a user of the server, starting it if it does not run; return once it takes connections.

        Raises:
            EmbeddedServerError: It cannot be started.
        """
        self._home.prepare()
        async with self._alone():
            self._users = self._users or await self._join()
        return self

    async def stop(self) -> bool:
        """Stop being a user; return True when this was the last one and the server is stopped.

        Raises:
            EmbeddedServerError: It does not stop.
        """
        if self._users is None:
            return False
        async with self._alone():
            users, self._users = self._users, None
            with users:
                if not users.try_exclusive():
                    return False
                if not await _finish(stop_server, self._home):
                    raise EmbeddedServerError(f"PostgreSQL in {self._home.root} does not stop; see {self._home.log}")
        return True

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def run(self, stop: asyncio.Event) -> None:
        """Bring server and watchdog back whenever they die, until `stop` is set; the use itself goes on."""
        pause_s = _SUPERVISION_PERIOD_S
        while not await wait_for(stop, pause_s):
            pause_s = _AFTER_REPAIR_S if await self.ensure() else _SUPERVISION_PERIOD_S

    async def ensure(self) -> bool:
        """Start server and watchdog again if we use them and they are dead; return whether they were.

        Raises:
            EmbeddedServerError: The server cannot be started.
        """
        if self._users is None or await asyncio.to_thread(self._is_whole):
            return False
        self._logger.warning("embedded server or its watchdog died, starting it again", data_dir=str(self._home.root))
        async with self._alone():
            if self._users is not None:
                await self._bring_up()
        return True

    def _is_whole(self) -> bool:
        return postmaster(self._home) is not None and is_held(self._home.watchdog_lock)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Hold the start lock, for a bounded time."""
        try:
            async with asyncio.timeout(_PATIENCE_S), exclusive(self._home.start_lock):
                yield
        except TimeoutError as error:
            raise EmbeddedServerError(
                f"PostgreSQL in {self._home.root} is not ready after {_PATIENCE_S:g} s; see {self._home.log}"
            ) from error

    async def _join(self) -> FileLock:
        users = FileLock(self._home.users_lock)
        try:
            users.share()
            await self._bring_up()
        except BaseException:
            users.release()
            raise
        return users

    async def _bring_up(self) -> None:
        """See that watchdog and server run; the watchdog comes first, so that at no time a server is without."""
        await _finish(self._prepare)
        launches = 0
        while (answer := await ask(self.socket_dir, self._database)) is not Answer.READY:
            if answer is Answer.AWAY and not (launches and is_held(self._home.server_lock)):
                if launches == _LAUNCHES:
                    raise EmbeddedServerError(
                        f"PostgreSQL in {self._home.root} does not start: {self._home.log_tail()}"
                    )
                launches += await _finish(self._cluster.launch)
            await asyncio.sleep(_POLL_S)

    def _prepare(self) -> None:
        self._home.prepare_sockets(server_account(self._home.cluster))
        ensure_watchdog(self._home)


async def _finish(function: Callable[..., T], *args: object) -> T:
    """Run a blocking function in a thread, to its end even when cancelled: it relies on the locks we hold."""
    work = asyncio.get_running_loop().run_in_executor(None, function, *args)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        await asyncio.wait([work])
        raise
