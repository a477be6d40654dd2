"""Reads what clients send to the server: the statements that are executed, as they pass on the wire."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator

from dataloader.config import Settings
from tests.api.proxy import Proxy

_HEADER = struct.Struct("!ci")
_SHORTEST_GREETING = 8
"""A message of this length only asks whether the server encrypts."""


class Wiretap(Proxy):
    """A way to the database that writes down every statement, in the simple protocol and in the extended one."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._upstreams: set[asyncio.StreamWriter] = set()
        self.statements: list[str] = []

    async def _upstream(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await super()._upstream()
        self._upstreams.add(writer)
        return reader, writer

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer not in self._upstreams:
            await super()._pass(reader, writer)
            return
        client = Client()
        while data := await reader.read(65_536):
            self.statements += client.feed(data)
            writer.write(data)
            await writer.drain()
        writer.close()


class Client:
    """Takes apart what one client sends."""

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False
        self._prepared: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the statements whose execution is asked for by what is complete now."""
        self._rest += data
        while (message := self._next()) is not None:
            kind, body = message
            name, _, rest = body.partition(b"\0")
            match kind:
                case b"P":
                    self._prepared[name] = rest.partition(b"\0")[0].decode()
                case b"B":
                    self._portals[name] = self._prepared[rest.partition(b"\0")[0]]
                case b"E":
                    yield self._portals[name]
                case b"Q":
                    yield name.decode()

    def _next(self) -> tuple[bytes, bytes] | None:
        """Return the next whole message; those before and with the greeting have no type."""
        data = self._rest if self._greeted else b"\0" + self._rest
        if len(data) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(data)
        if len(data) < length + 1:
            return None
        self._greeted = self._greeted or length > _SHORTEST_GREETING
        self._rest = data[length + 1 :]
        return kind, data[_HEADER.size : length + 1]
