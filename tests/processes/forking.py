"""Starts service processes by fork from one that has loaded everything already: real ones, whose start costs little.

`python -m tests.processes.forking` reads requests, a JSON line each, and answers with the pid; it tells of every end.
"""

from __future__ import annotations

import json
import os
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

_LOADED = (
    "dataloader.cli",
    "dataloader.cli.process",
    "dataloader.workers.pipelines.cbr",
    "tests.chaos.matrix.failpoints",
)


@dataclass(frozen=True, slots=True)
class Request:
    """A process that is wanted: `python -m dataloader`.

    Attributes:
        arguments: Behind the name.
        environment: All variables.
        folder: Its directory.
        output: File that takes what it prints.
        errors: File that takes what it says of errors; may be the same.
        alone: Whether it gets a session of its own, as behind a terminal that is closed.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    output: str
    errors: str
    alone: bool = False


class Forked:
    """A process that was forked; what `subprocess.Popen` offers and is needed of it."""

    def __init__(self, pid: int, ends: Mapping[int, int]) -> None:
        self.pid = pid
        self._ends = ends

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self._ends.get(self.pid)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class Forge:
    """The process that others are forked from."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ends: dict[int, int] = {}
        self._started: list[int] = []
        self._answered = threading.Semaphore(0)
        threading.Thread(target=self._read, daemon=True).start()

    def start(self, request: Request) -> Forked:
        """Start a process."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        self._answered.acquire()
        return Forked(self._started.pop(), self._ends)

    def close(self) -> None:
        """End it; what it has started is ended before."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            match json.loads(line):
                case {"pid": pid, "code": code}:
                    self._ends[pid] = code
                case {"pid": pid}:
                    self._ends.pop(pid, None)
                    self._started.append(pid)
                    self._answered.release()


def _serve() -> Request | None:
    """Fork what is asked for; return in the children with their request, in the parent when nothing more comes."""
    bell, ring = os.pipe()
    os.set_blocking(ring, False)
    signal.set_wakeup_fd(ring)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        readable, _, _ = select.select([0, bell], [], [])
        if bell in readable:
            os.read(bell, 4096)
            _tell_ends()
        if 0 not in readable:
            continue
        if not (data := os.read(0, 65_536)):
            return None
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            request = Request(**json.loads(line))
            if (pid := os.fork()) == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(bell)
                os.close(ring)
                return request
            _tell(pid=pid)


def _tell_ends() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _tell(pid=pid, code=os.waitstatus_to_exitcode(status))


def _tell(**facts: Any) -> None:
    os.write(1, (json.dumps(facts) + "\n").encode())


def _become(request: Request) -> None:
    """Be what was asked for, as if started by the command line."""
    if request.alone:
        os.setsid()
    how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    nowhere, output = os.open(os.devnull, os.O_RDONLY), os.open(request.output, how, 0o600)
    errors = output if request.errors == request.output else os.open(request.errors, how, 0o600)
    for source, target in ((nowhere, 0), (output, 1), (errors, 2)):
        os.dup2(source, target)
    os.chdir(request.folder)
    sys.path[:1] = [request.folder, *filter(None, request.environment.get("PYTHONPATH", "").split(os.pathsep))]
    os.environ.clear()
    os.environ.update(request.environment)
    sys.argv = [str(Path(sys.argv[0])), *request.arguments]
    runpy.run_module("dataloader", run_name="__main__", alter_sys=True)


def main() -> None:
    """Load everything, then serve."""
    for name in _LOADED:
        import_module(name)
    if request := _serve():
        _become(request)


if __name__ == "__main__":
    main()
