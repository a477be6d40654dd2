"""The HTTP server as a component: it binds first, serves until told to stop, and ends within a bound."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

from dataloader.api.protocol import BoundedHeadProtocol
from dataloader.api.services import Services
from dataloader.config import Settings
from dataloader.exceptions import SettingsError

GRACE_S = 5
KEEP_ALIVE_S = 30
BACKLOG = 2048


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the process decides when to stop."""

    def __init__(self, config: uvicorn.Config, *, accepting: asyncio.Event) -> None:
        super().__init__(config)
        self._accepting = accepting

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._accepting.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """Serves an application on APP_HOST and APP_PORT.

    Args:
        app: What to serve.
        settings: Where to listen.
        keep_alive_s: How long a connection may go without a request.

    Attributes:
        started: Set when requests are accepted.
        port: The port in use; known once started, of interest when APP_PORT is 0.
    """

    name = "api server"

    def __init__(self, app: FastAPI, settings: Settings, *, keep_alive_s: int = KEEP_ALIVE_S) -> None:
        self._app = app
        self._keep_alive_s = keep_alive_s
        self._settings = settings
        self.started = asyncio.Event()
        self.port = settings.app_port

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop` is set; requests under way get a few seconds, waiting ones are answered at once.

        Raises:
            SettingsError: The address cannot be listened on.
        """
        with await self._bound() as listening:
            self.port = listening.getsockname()[1]
            server = _Server(self._config(), accepting=self.started)
            async with asyncio.TaskGroup() as group:
                serving = group.create_task(server.serve(sockets=[listening]))
                stopping = group.create_task(stop.wait())
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
                self._release_waiters()
                server.should_exit = True
                stopping.cancel()

    def _release_waiters(self) -> None:
        services: Services | None = getattr(self._app.state, "services", None)
        if services is not None:
            services.waiter.release()

    def _config(self) -> uvicorn.Config:
        return uvicorn.Config(
            self._app,
            http=BoundedHeadProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=self._keep_alive_s,
            timeout_graceful_shutdown=GRACE_S,
        )

    async def _bound(self) -> socket.socket:
        host, port = self._settings.host, self._settings.app_port
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise SettingsError(f"APP_HOST={host}: {error.strerror or error}") from error
        family, kind, protocol, _, address = found[0]
        return _listening(socket.socket(family, kind, protocol), address, host=host, port=port)


def _listening(sock: socket.socket, address: tuple[object, ...], *, host: str, port: int) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno or 0).lower()
        name = f"APP_HOST={host}" if error.errno == errno.EADDRNOTAVAIL else f"APP_PORT={port} on {host}"
        raise SettingsError(f"{name}: {reason}") from error
    return sock
