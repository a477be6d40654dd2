"""The measured processes, as they run anywhere."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import psutil

from dataloader.config import Settings


@asynccontextmanager
async def running(
    role: str | None,
    environment: dict[str, str],
    *,
    module: str = "dataloader",
    end: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[int]:
    """Run a role of the service, all of it if None, for the time of the block; yield its pid."""
    command = [sys.executable, "-m", module, *([role] if role else [])]
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        yield process.pid
    finally:
        if process.returncode is None:
            process.send_signal(end)
        await process.wait()


def cpu_seconds(pid: int) -> float:
    """Return the CPU time a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def base_environment(settings: Settings) -> dict[str, str]:
    """Return the environment of the measured processes."""
    return dict(os.environ) | {
        "PG_HOST": str(settings.pg_host),
        "PG_USER": settings.pg_user,
        "PG_DATABASE": settings.pg_database,
        "DL_PIPELINES": "benchmarks.pipelines",
        "LOG_LEVEL": "WARNING",
        "PYTHONPATH": os.getcwd(),  # noqa: PTH109 - the root of the project
    }


async def has_worker(session: aiohttp.ClientSession, url: str) -> bool:
    """Return whether the API at an address answers and knows a worker."""
    try:
        async with session.get(f"{url}/workers") as response:
            return bool((await response.json())["workers"])
    except aiohttp.ClientError:
        return False
