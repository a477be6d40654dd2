"""Worker processes as an operator has them: started with the command line, ended with signals, known by their logs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from dataloader.config import Settings
from tests.processes.forking import Request
from tests.processes.starting import Started, start
from tests.workers.harness import eventually

_PROJECT = Path(__file__).parents[2]
PIPELINES = "tests.chaos.pipelines"
TABLES = """
create table loaded (job_id uuid, chunk int, n int, epoch int);
create table copied (job_id uuid, n int, filler text);
create table spans (job_id uuid, epoch int, key text, entered_at timestamptz, left_at timestamptz);
"""


class ServiceProcess:
    """A `dataloader` process."""

    def __init__(self, process: Started, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one event."""
        lines = (json.loads(line) for line in self.log().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    async def works(self) -> None:
        """Wait until it claims jobs."""
        await self.says("workers started")

    async def says(self, event: str, *, within_s: float = 20) -> None:
        """Wait for a line in its log."""

        async def said() -> bool:
            assert self.exit_code is None or self.lines(event), self.log()
            return bool(self.lines(event))

        await eventually(said, within_s=within_s)

    async def ends(self, *, within_s: float = 20) -> int:
        """Wait for its end; return the exit code."""

        async def ended() -> bool:
            return self.exit_code is not None

        await eventually(ended, within_s=within_s)
        assert self.exit_code is not None
        return self.exit_code

    async def kill(self) -> None:
        """Give it no chance to clean up."""
        if self.exit_code is None:
            self._process.kill()
        await self.ends()


class Fleet:
    """Starts processes of the service for one test, and leaves none."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        self.started: list[ServiceProcess] = []

    def start(
        self, command: str = "worker", *, queues: Mapping[str, int] | None = None, **overrides: object
    ) -> ServiceProcess:
        """Start a process, of all roles when `command` is empty; it may take a second until it works."""
        workers = [{"queue": queue, "concurrency": slots} for queue, slots in (queues or {"chaos": 4}).items()]
        settings = self.settings.model_dump(exclude_unset=True) | overrides
        environment = {name.upper(): _text(value) for name, value in settings.items() if value is not None}
        log = self._folder / f"process-{len(self.started)}.log"
        inherited = {name: value for name, value in os.environ.items() if name.startswith(("COV", "PATH", "HOME"))}
        environment = (
            inherited
            | {"DL_PIPELINES": PIPELINES}
            | environment
            | {
                "PYTHONPATH": f"{_PROJECT / 'src'}{os.pathsep}{_PROJECT}",
                "WORKERS_JSON": json.dumps(workers),
            }
        )
        log.touch()
        process = start(Request(command.split(), environment, str(self._folder), str(log), str(log)))
        self.started.append(ServiceProcess(process, log))
        return self.started[-1]

    async def close(self) -> None:
        for one in self.started:
            await one.kill()


def _text(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
