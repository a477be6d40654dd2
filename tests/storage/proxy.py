"""A door in front of the server that can be closed, or go silent without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from dataloader.config import Settings


class Proxy:
    """Passes bytes between clients and the server until told not to."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent: set[asyncio.Event] = set()
        self.port = 0
        self.rewrites: dict[bytes, bytes] = {}

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Take no more connections, and end those that are open."""
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def silence(self) -> None:
        """Let nothing through on the connections that are open now, and tell nobody."""
        for silent in self._silent:
            silent.set()

    def dsn(self, database: str) -> str:
        """Return the address of a database through this door."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        silent = asyncio.Event()
        self._silent.add(silent)
        upstream, downstream = await self._connect()
        with suppress(asyncio.CancelledError, ConnectionError):
            await asyncio.gather(_pass(reader, downstream, silent, self.rewrites), _pass(upstream, writer, silent, {}))
        for end in (writer, downstream):
            end.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        settings = self._settings
        if settings.pg_host and settings.pg_host.startswith("/"):
            return await asyncio.open_unix_connection(f"{settings.pg_host}/.s.PGSQL.{settings.pg_port}")
        return await asyncio.open_connection(settings.pg_host, settings.pg_port)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event, rewrites: dict[bytes, bytes]
) -> None:
    while data := await reader.read(65_536):
        for old, new in rewrites.items():
            data = data.replace(old, new)
        if not silent.is_set():
            writer.write(data)
            await writer.drain()
    raise ConnectionAbortedError


@asynccontextmanager
async def proxied(settings: Settings) -> AsyncIterator[Proxy]:
    """Open a door to the server that settings lead to."""
    proxy = Proxy(settings)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.close()
