"""A proxy that reads the server's side of the protocol, to lose the answer to a commit and nothing else."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

from tests.chaos.matrix.orders import Orders
from tests.chaos.proxy import SocketProxy

_HEADER = struct.Struct("!ci")
_KEY_DATA, _READY, _IDLE = b"K", b"Z", b"I"
_DONE = frozenset({b"C", b"s"})
"""How an answer ends: all rows are sent, or as many as were asked for."""


class Frames:
    """Cuts a byte stream of the server into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Return the messages that are complete now, each as its type and all of its bytes."""
        found, place, data = [], 0, self._rest + data
        while len(data) - place >= _HEADER.size:
            kind, length = _HEADER.unpack_from(data, place)
            if len(data) - place < length + 1:
                break
            found.append((kind, data[place : place + length + 1]))
            place += length + 1
        self._rest = data[place:]
        return found


def backend_of(messages: list[tuple[bytes, bytes]]) -> int | None:
    """Return the server process that introduces itself in these messages."""
    for kind, message in messages:
        if kind == _KEY_DATA:
            return int.from_bytes(message[5:9], "big")
    return None


class CommitFilter:
    """Passes messages on until one says that a transaction is committed.

    A statement in autocommit and a COMMIT look alike: CommandComplete, or PortalSuspended where only the first row was
    asked for, then ReadyForQuery outside of a transaction. The first is held back until it is known which it was.
    """

    def __init__(self) -> None:
        self._frames = Frames()
        self._held = b""

    def feed(self, data: bytes) -> bytes | None:
        """Return what may be handed on, None when the connection is to be cut instead."""
        passed = b""
        for kind, message in self._frames.feed(data):
            if kind in _DONE or self._held:
                self._held += message
            else:
                passed += message
            if kind == _READY and self._held:
                if message[5:6] == _IDLE:
                    return None
                passed, self._held = passed + self._held, b""
        return passed


class DroppingProxy(SocketProxy):
    """Stands between the service and the server's socket.

    Args:
        upstream: The server's socket.
        orders: Says whose next commit is to stay unanswered.
    """

    def __init__(self, upstream: Path, orders: Orders) -> None:
        super().__init__(upstream)
        self._orders = orders

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _hello: bytes) -> None:
        greeting, backend = Frames(), None
        while backend is None:
            if not (data := await reader.read(65_536)):
                return
            backend = backend_of(greeting.feed(data))
            writer.write(data)
        try:
            await self._pass_on(reader, writer, backend)
        finally:
            self._orders.dropped(backend, really=False)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: int) -> None:
        commits: CommitFilter | None = None
        while data := await reader.read(65_536):
            if commits is None and self._orders.wants_drop(backend):
                commits = CommitFilter()
            passed = data if commits is None else commits.feed(data)
            if passed is None:
                self._orders.dropped(backend, really=True)
                return
            writer.write(passed)
