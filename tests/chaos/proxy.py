"""A proxy in front of the server's socket that loses answers: the statement has been executed, nobody hears of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

SOCKET = ".s.PGSQL.5432"


class AnswerLosingProxy:
    """Forwards bytes; asked before each answer whether to cut the connection instead of handing it on.

    Args:
        upstream: The server's socket.
        loses: Called with the purpose of a connection and the bytes of an answer.
    """

    def __init__(self, upstream: Path, loses: Callable[[str, bytes], bool]) -> None:
        self._upstream = upstream
        self._loses = loses
        self.lost: Counter[str] = Counter()

    @asynccontextmanager
    async def listening(self, folder: Path) -> AsyncIterator[Path]:
        """Serve under a directory that can be named as PG_HOST."""
        tasks: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            try:
                await self._serve(reader, writer)
            except asyncio.CancelledError:
                pass
            finally:
                tasks.discard(task)

        server = await asyncio.start_unix_server(serve, folder / SOCKET)
        try:
            yield folder
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
        try:
            hello = await reader.read(65_536)
            purpose = _purpose(hello)
            server_writer.write(hello)
            forth = asyncio.ensure_future(_pipe(reader, server_writer))
            back = asyncio.ensure_future(self._answers(server_reader, writer, purpose))
            try:
                await asyncio.wait({forth, back}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                forth.cancel()
                back.cancel()
                await asyncio.gather(forth, back, return_exceptions=True)
        finally:
            server_writer.transport.abort()
            writer.transport.abort()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, purpose: str) -> None:
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
