"""Commands of ours as processes of their own, in an environment that holds nothing but what the test sets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dataloader.config import Settings

TIMEOUT_S = 30.0
_PASSED_ON = {"PATH", "HOME", "LANG", "COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START"}


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left."""

    code: int
    out: str
    err: str


def environment(settings: Settings | None = None, **more: object) -> dict[str, str]:
    """Return variables that lead to the database of `settings`, with its timers; `more` are named like settings."""
    chosen = settings.model_dump(exclude_unset=True) if settings else {}
    values = {name: value for name, value in (chosen | more).items() if value is not None}
    passed_on = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    return passed_on | {name.upper(): _text(value) for name, value in values.items()}


def _text(value: object) -> str:
    return str(getattr(value, "get_secret_value", lambda: value)())


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class Service:
    """A process of ours that runs.

    Attributes:
        lines: What it has logged so far.
    """

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)

    async def logged(self, text: str) -> str:
        """Return the first log line with `text`, now or to come."""
        for line in self.lines:
            if text in line:
                return line
        assert self.process.stderr is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TIMEOUT_S):
                while line := (await self.process.stderr.readline()).decode():
                    self.lines.append(line)
                    if text in line:
                        return line
        raise AssertionError(f"it did not say {text!r}:\n{''.join(self.lines)}")

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> Ended:
        """Return how it ended, with all it logged."""
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await self.process.communicate()
        return Ended(self.process.returncode or 0, out.decode(), "".join(self.lines) + err.decode())


@asynccontextmanager
async def running(cwd: Path, *arguments: str, env: Mapping[str, str]) -> AsyncIterator[Service]:
    """Start a command; whatever is left of it at the end of the block is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dataloader",
        *arguments,
        cwd=cwd,
        env=dict(env),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield Service(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def run(cwd: Path, *arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command to its end."""
    async with running(cwd, *arguments, env=env) as service:
        return await service.ended()
