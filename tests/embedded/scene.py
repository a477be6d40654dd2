"""Users of a server in processes of their own, and what can be seen of a server from outside."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import asyncpg
import psutil

from dataloader.embedded import EmbeddedServer
from dataloader.embedded.home import Home
from dataloader.embedded.locks import is_held
from dataloader.embedded.processes import postmaster

_PROJECT = Path(__file__).parents[2]
_BOUND_S = 20.0


class User:
    """A process that uses a server and can be killed."""

    def __init__(self, process: Process) -> None:
        self.process = process

    @classmethod
    async def spawn(cls, data_dir: Path) -> Self:
        command = [sys.executable, "-m", "tests.embedded.user", str(data_dir)]
        return cls(await asyncio.create_subprocess_exec(*command, cwd=_PROJECT, stdin=PIPE, stdout=PIPE))

    async def says(self) -> str:
        """Return its next line."""
        assert self.process.stdout
        async with asyncio.timeout(_BOUND_S):
            return (await self.process.stdout.readline()).decode().strip()

    async def leave(self) -> str:
        """Have it stop using the server; return what came of that."""
        assert self.process.stdin
        self.process.stdin.close()
        answer = await self.says()
        await self.process.wait()
        return answer

    async def kill(self) -> None:
        """Give it no chance to clean up."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.communicate()


@asynccontextmanager
async def connection(
    server: EmbeddedServer, database: str = "dataloader"
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Connect to the server."""
    connected = await asyncpg.connect(host=str(server.socket_dir), user="postgres", database=database)
    try:
        yield connected
    finally:
        await connected.close()


async def eventually(holds: Callable[[], bool], *, within_s: float = _BOUND_S) -> float:
    """Wait until something holds; return the seconds it took."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def processes(home: Home) -> list[psutil.Process]:
    """Return postmaster, backends and watchdogs of a home."""
    return [process for process in psutil.process_iter() if _belongs(process, home)]


def nothing_left(home: Home) -> bool:
    """Return whether nothing lives because of a home; an initdb is known by its lock only."""
    return not processes(home) and not is_held(home.server_lock)


def watchdogs(home: Home) -> list[psutil.Process]:
    """Return the watchdogs of a home."""
    return [process for process in processes(home) if "dataloader.embedded.watchdog" in _words(process)]


def backends(home: Home) -> list[psutil.Process]:
    """Return the server's processes but the first."""
    first = postmaster(home)
    return first.children() if first else []


def live_postmaster(home: Home) -> psutil.Process:
    """Return the server's first process."""
    process = postmaster(home)
    assert process is not None
    return process


def _belongs(process: psutil.Process, home: Home) -> bool:
    words = _words(process)
    if process.pid == os.getpid() or "tests.embedded.user" in words:
        return False
    return any(str(home.root) in word or home.mark in word for word in words)


def _words(process: psutil.Process) -> list[str]:
    """Return the command line of a process, nothing of one that has just ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []
