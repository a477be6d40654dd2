"""The server's processes: how they are started, recognised and stopped. Everything here blocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from dataloader.embedded.accounts import Account
from dataloader.embedded.errors import HOW_TO_GET_ONE, EmbeddedServerError
from dataloader.embedded.home import Home
from dataloader.embedded.locks import FileLock, is_held

with suppress(ImportError):  # the package imports without the extra
    import psutil

StrPath = str | Path

POSTGRES_ENVIRONMENT: Mapping[str, str] = {"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
"""All that PostgreSQL gets to see: locales and PG* variables of the user must not change what it does."""

_WATCHDOG = "dataloader.embedded.watchdog"
_POLL_S = 0.02
_REPEAT_S = 1.0
_CLOCK_SLACK_S = 3.0
_STOP_STAGES = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0))


def run(
    command: Sequence[StrPath],
    *,
    account: Account | None = None,
    env: Mapping[str, str] | None = POSTGRES_ENVIRONMENT,
    output: BinaryIO | int = subprocess.PIPE,
    inherit: Iterable[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end, out of reach of Ctrl-C in our terminal.

    Args:
        command: Program and arguments.
        account: Whom it runs as; None for our own account.
        env: Its environment; None for ours.
        output: Where its output and errors go.
        inherit: Descriptors that it and its children keep open as long as they live.
    """
    return subprocess.run(  # noqa: S603 - every command is ours
        command,
        cwd="/",
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        start_new_session=True,
        pass_fds=tuple(inherit),
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )


def detached(command: Sequence[StrPath]) -> list[StrPath]:
    """Return a command that starts `command` and ends: init reaps it then, not whoever happened to start it."""
    return ["/bin/sh", "-c", '"$@" &', "sh", *command]


def require_psutil() -> None:
    """Raise an error that says what to install, if psutil is not there."""
    if find_spec("psutil") is None:
        raise EmbeddedServerError(f"the embedded PostgreSQL needs psutil: {HOW_TO_GET_ONE}")


def postmaster(home: Home) -> psutil.Process | None:
    """Return the living server process; a pid file that names anything else is not believed."""
    try:
        pid, _, began_at, *_ = (home.cluster / "postmaster.pid").read_text().split("\n")
        process = psutil.Process(int(pid))
        return process if _is_marked(process, home.mark) or _is_server_since(process, int(began_at)) else None
    except (OSError, ValueError, psutil.Error):
        return None


def stop_server(home: Home) -> bool:
    """Stop the server and what is left of it; return whether nothing is. The caller holds the start lock.

    One that somebody else has started on the data is left alone.

    First a fast shutdown, then an immediate one, then SIGKILL.
    """
    for stage, wait_s in _STOP_STAGES:
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            _signal(home, stage)
            if _wait_until_gone(home, _REPEAT_S):
                home.remove_sockets()
                home.remove_socket_dir()
                return True
    return False


def kill_remains(home: Home) -> None:
    """Kill what a dead postmaster left: such a backend serves nobody, and no server can start beside it."""
    for process in psutil.process_iter():
        if _is_marked(process, home.mark):
            with suppress(psutil.Error):
                process.kill()


def ensure_watchdog(home: Home) -> None:
    """Start the watchdog unless there is one; it holds its lock from its first moment on."""
    lock = FileLock(home.watchdog_lock)
    try:
        if lock.try_exclusive():
            command = detached([sys.executable, "-m", _WATCHDOG, home.root, str(lock.fileno())])
            with home.open_log() as log:
                run(command, env=None, output=log, inherit=[lock.fileno()])
    finally:
        lock.leave_to_children()


def _signal(home: Home, number: signal.Signals) -> None:
    process = postmaster(home)
    if process is None or not _is_marked(process, home.mark):
        kill_remains(home)
        return
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _wait_until_gone(home: Home, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while is_held(home.server_lock):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _is_marked(process: psutil.Process, mark: str) -> bool:
    """Return whether a process is PostgreSQL and ours; a zombie has no command line any more."""
    try:
        return process.name().startswith("postgres") and any(mark in part for part in process.cmdline())
    except psutil.Error:
        return False


def _is_server_since(process: psutil.Process, began_at: int) -> bool:
    """Return whether a process is a PostgreSQL that began then: without our mark, started by somebody else."""
    is_alive = process.name().startswith("postgres") and process.status() != psutil.STATUS_ZOMBIE
    return is_alive and abs(process.create_time() - began_at) < _CLOCK_SLACK_S
