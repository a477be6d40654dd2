"""Proxies in front of the server's socket: what is executed and what its client hears of it come apart."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class SocketProxy:
    """Forwards bytes both ways; each connection lasts until one side of it ends.

    Args:
        upstream: The server's socket.
    """

    def __init__(self, upstream: Path) -> None:
        self._upstream = upstream
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self, folder: Path) -> AsyncIterator[Path]:
        """Serve under a directory that can be named as PG_HOST."""
        server = await asyncio.start_unix_server(self._serve, folder / SOCKET, backlog=512)
        try:
            yield folder
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        try:
            await self._join(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
        ways: list[asyncio.Task[None]] = []
        try:
            hello = await reader.read(65_536)
            server_writer.write(hello)
            ways.append(asyncio.create_task(_pipe(reader, server_writer)))
            ways.append(asyncio.create_task(self._answers(server_reader, writer, hello)))
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            server_writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: bytes) -> None:
        """Hand on what the server says; the connection ends when this returns."""
        raise NotImplementedError


class AnswerLosingProxy(SocketProxy):
    """Asked before each answer whether to cut the connection instead of handing it on.

    Args:
        upstream: The server's socket.
        loses: Called with the purpose of a connection and the bytes of an answer.
    """

    def __init__(self, upstream: Path, loses: Callable[[str, bytes], bool]) -> None:
        super().__init__(upstream)
        self._loses = loses
        self.lost: Counter[str] = Counter()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: bytes) -> None:
        purpose = _purpose(hello)
        while data := await reader.read(65_536):
            if self._loses(purpose, data):
                self.lost[purpose] += 1
                return
            writer.write(data)


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)


def _purpose(hello: bytes) -> str:
    """Return what a connection says that it is for; pipelines' connections are named before their first chunk."""
    words = hello.split(b"\0")
    name = words[words.index(b"application_name") + 1] if b"application_name" in words else b"?"
    return name.decode().removeprefix("dataloader ")
