"""The processes of the demo: an API and a worker as they would run anywhere, on an embedded PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dataloader.client import DataloaderClient
from dataloader.config import Settings, load_settings
from dataloader.embedded import EmbeddedServer
from dataloader.exceptions import DataloaderError, UnavailableError

LEASE_S = 4.0
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


@dataclass(slots=True)
class Stage:
    """Where the demo plays.

    Attributes:
        environment: What the processes are started with.
        folder: Holds the data and one log per process.
    """

    folder: Path
    environment: dict[str, str]
    settings: Settings
    client: DataloaderClient
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, role: str) -> int:
        """Start a role of the service as a process of its own; return its pid."""
        with (self.folder / f"{role}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "dataloader", role, "--embedded"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes[role] = process
        return process.pid

    def kill(self, role: str) -> None:
        """End a process as a crash, an OOM killer or a lost machine would."""
        process = self.processes[role]
        process.kill()
        process.wait(STOP_TIMEOUT_S)

    async def ready(self) -> None:
        """Wait until the API answers and a worker has signed on.

        Raises:
            DataloaderError: One of them ended, or took too long.
        """
        async with asyncio.timeout(START_TIMEOUT_S):
            while not await self._is_ready():
                self.check_alive()
                await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        try:
            return bool(await self.client.workers())
        except UnavailableError:
            return False

    def check_alive(self) -> None:
        """See that the processes run.

        Raises:
            DataloaderError: One has ended by itself; the message ends with its log.
        """
        for role, process in self.processes.items():
            if process.poll() is not None:
                raise DataloaderError(f"the {role} process of the demo ended by itself:\n{self.log_of(role)}")

    def log_of(self, role: str) -> str:
        """Return the last lines that a process has written."""
        return (self.folder / f"{role}.log").read_text("utf-8", "replace")[-1_500:]

    def stop(self) -> None:
        """Stop what still runs, in order."""
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@asynccontextmanager
async def open_stage(folder: Path, *, source_url: str) -> AsyncIterator[Stage]:
    """Start PostgreSQL, migrate, start API and worker, and stop all of it in the end."""
    from dataloader.storage.migrate import migrate  # noqa: PLC0415 - help texts must not wait for it

    port = _free_port()
    server = EmbeddedServer(folder / "data")
    async with server:
        settings = load_settings(_env_file=None, app_port=port, **server.overrides())
        await migrate(settings)
        environment = _environment(folder, port=port, source_url=source_url)
        async with DataloaderClient(f"http://127.0.0.1:{port}") as client:
            stage = Stage(folder, environment, settings, client)
            try:
                stage.start("api")
                stage.start("worker")
                await stage.ready()
                yield stage
            finally:
                await asyncio.to_thread(stage.stop)


def _environment(folder: Path, *, port: int, source_url: str) -> dict[str, str]:
    """Return an environment without settings of other services, with a short lease so that the resume is seen."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "DL_", "APP_", "LOG_"))}
    return kept | {
        "APP_PORT": str(port),
        "DL_DATA_DIR": str(folder / "data"),
        "DL_CBR_BASE_URL": source_url,
        "DL_HEARTBEAT_SEC": str(LEASE_S / 4),
        "DL_DEFAULT_LEASE_TTL_SEC": str(LEASE_S),
        "DL_REAPER_PERIOD_SEC": "0.5",
        "WORKERS_JSON": '[{"queue": "load.cbr", "concurrency": 2}]',
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
