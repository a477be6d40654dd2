"""A way to the database that can be cut, frozen and opened again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Self
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from dataloader.config import Settings


class Proxy:
    """Passes bytes between the service and PostgreSQL until told otherwise.

    Args:
        settings: Where PostgreSQL is.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def start(self) -> Self:
        """Listen, on the same port as before if there was one."""
        self._open.set()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def cut(self) -> None:
        """End every connection and refuse new ones, as a server that has stopped does."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        self._open.set()

    def freeze(self) -> None:
        """Keep connections but pass nothing on, as a server that hangs does."""
        self._open.clear()

    def thaw(self) -> None:
        """Pass on again, what has waited too."""
        self._open.set()

    @property
    def overrides(self) -> dict[str, object]:
        """Settings that lead through here."""
        if self._settings.dl_db_dsn is None:
            return {"pg_host": "127.0.0.1", "pg_port": self.port}
        parts = urlsplit(self._settings.dl_db_dsn.get_secret_value())
        login = parts.netloc.rpartition("@")[0]
        query = {name: values for name, values in parse_qs(parts.query).items() if name not in {"host", "port"}}
        through = parts._replace(netloc=f"{login}@127.0.0.1:{self.port}", query=urlencode(query, doseq=True))
        return {"dl_db_dsn": urlunsplit(through)}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._open.wait()
            upstream_reader, upstream = await self._upstream()
            self._writers.add(upstream)
            with suppress(OSError):
                await asyncio.gather(self._pass(reader, upstream), self._pass(upstream_reader, writer))
            self._writers.discard(upstream)
            upstream.close()
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            await self._open.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self._place()
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    def _place(self) -> tuple[str, int]:
        """Return where the server takes connections; a DSN names a socket's directory in its query."""
        if self._settings.dl_db_dsn is None:
            return str(self._settings.pg_host), self._settings.pg_port
        parts = urlsplit(self._settings.dl_db_dsn.get_secret_value())
        query = parse_qs(parts.query)
        (host,), (port,) = query.get("host", [parts.hostname or ""]), query.get("port", [str(parts.port or 5432)])
        return host, int(port)


@asynccontextmanager
async def proxied(settings: Settings) -> AsyncIterator[Proxy]:
    """Open a way to the database for the length of a block."""
    proxy = await Proxy(settings).start()
    try:
        yield proxy
    finally:
        await proxy.cut()
