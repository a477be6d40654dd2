"""Commands of ours as processes of their own, in an environment that holds nothing but what the test sets."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from dataloader.config import Settings
from tests.processes.forking import Request
from tests.processes.starting import Started, start
from tests.workers.harness import eventually

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


class Service:
    """A process of ours that runs.

    Args:
        process: The process.
        output: File with what it prints.
        errors: File with what it logs.
    """

    def __init__(self, process: Started, output: Path, errors: Path) -> None:
        self._process = process
        self._output = output
        self._errors = errors

    @property
    def lines(self) -> list[str]:
        """What it has logged so far."""
        return _lines(self._errors)

    async def logged(self, text: str) -> str:
        """Return the first line of its log with `text`, now or to come."""
        return await self._said(self._errors, text)

    async def printed(self, text: str) -> str:
        """Return the first line it prints with `text`, now or to come."""
        return await self._said(self._output, text)

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def ended(self) -> Ended:
        """Return how it ended, with all it said."""
        await eventually(self._has_ended, within_s=TIMEOUT_S)
        return Ended(self._process.poll() or 0, self._output.read_text(), self._errors.read_text())

    async def killed(self) -> None:
        """Leave nothing of it."""
        self._process.kill()
        await eventually(self._has_ended, within_s=TIMEOUT_S)

    async def _said(self, file: Path, text: str) -> str:
        async def found() -> str | None:
            has_ended = await self._has_ended()
            line = next((line for line in _lines(file) if text in line), None)
            assert line or not has_ended, f"it did not say {text!r}:\n{file.read_text()}"
            return line

        return await eventually(found, within_s=TIMEOUT_S) or ""

    async def _has_ended(self) -> bool:
        return self._process.poll() is not None


def _lines(file: Path) -> list[str]:
    """Return the whole lines of a file."""
    return [line for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]


@asynccontextmanager
async def running(cwd: Path, *arguments: str, env: Mapping[str, str]) -> AsyncIterator[Service]:
    """Start a command; whatever is left of it at the end of the block is killed."""
    with TemporaryDirectory() as folder:
        output, errors = (Path(folder, name) for name in ("output", "errors"))
        output.touch()
        errors.touch()
        process = start(Request(arguments, dict(env), str(cwd), str(output), str(errors), alone=True))
        service = Service(process, output, errors)
        try:
            yield service
        finally:
            await service.killed()


async def run(cwd: Path, *arguments: str, env: Mapping[str, str]) -> Ended:
    """Run a command to its end."""
    async with running(cwd, *arguments, env=env) as service:
        return await service.ended()
