"""Initialises and launches the server. Everything here blocks; the caller holds the start lock."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dataloader.embedded.accounts import Account, server_account
from dataloader.embedded.binaries import Binaries, find_binaries, private_copy
from dataloader.embedded.errors import EmbeddedServerError
from dataloader.embedded.home import Home
from dataloader.embedded.locks import FileLock
from dataloader.embedded.processes import StrPath, detached, kill_remains, postmaster, run

_COPIES = Path("/var/lib/dataloader")
_DESCRIPTORS = Path("/proc/self/fd")
_DEFAULTS = {"max_connections": "200", "shared_buffers": "128MB", "jit": "off", "timezone": "UTC"}


class Cluster:
    """The data of one home and the programs that serve them.

    Args:
        home: Where the data lie.
        bindir: Where the programs are; None to look for them.
        settings: Server settings by name, over the defaults.
    """

    def __init__(self, home: Home, *, bindir: Path | None, settings: Mapping[str, str]) -> None:
        self._home = home
        self._bindir = bindir
        self._settings = _DEFAULTS | dict(settings)

    def launch(self) -> bool:
        """Start the server, after initdb if there are no data; return False while processes of an earlier one live.

        Of a server without a postmaster they are killed here; a living one may still be starting or stopping.

        Raises:
            EmbeddedServerError: There are no programs, or they failed.
        """
        lock = FileLock(self._home.server_lock)
        try:
            if lock.try_exclusive():
                self._launch(lock)
                return True
            if postmaster(self._home) is None:
                kill_remains(self._home)
        except OSError as error:
            raise EmbeddedServerError(f"PostgreSQL cannot be started in {self._home.root}: {error}") from error
        finally:
            lock.leave_to_children()
        return False

    def _launch(self, lock: FileLock) -> None:
        account = server_account(self._home.cluster)
        binaries = find_binaries(self._bindir, major=self._major())
        if account and not binaries.work_for(account):
            binaries = private_copy(binaries, _COPIES)
        if not self._home.cluster.exists():
            self._initialise(binaries, account, lock)
        self._remove_stale_files()
        self._serve(binaries, account, lock)

    def _major(self) -> int | None:
        """Return the version that wrote the data, None if there are none."""
        version = self._home.cluster / "PG_VERSION"
        return int(version.read_text()) if version.exists() else None

    def _initialise(self, binaries: Binaries, account: Account | None, lock: FileLock) -> None:
        """Run initdb beside the final place and rename the result: killed on the way it leaves nothing like data."""
        new = self._home.unfinished_cluster
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        if account:
            account.give(new)
        with way_into(new, account) as (path, descriptors):
            command: list[StrPath] = [binaries.bindir / "initdb", "-D", path, *self._options(binaries)]
            done = run(command, account=account, inherit=[lock.fileno(), *descriptors])
        if done.returncode:
            raise EmbeddedServerError(
                f"initdb failed in {self._home.root} (exit code {done.returncode}): {done.stdout[-2000:].strip()}"
            )
        new.rename(self._home.cluster)
        with _opened(self._home.root) as root:
            os.fsync(root)

    def _options(self, binaries: Binaries) -> list[str]:
        """Return options of initdb; the locale is one that every system has."""
        options = ["-U", "postgres", "--encoding=UTF8", "--no-locale", "--auth-local=trust", "--auth-host=reject"]
        if binaries.major >= 17:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if self._settings.get("fsync") == "off":
            options += ["--no-sync"]
        return [*options, "--data-checksums"]

    def _remove_stale_files(self) -> None:
        """Remove what names a dead server: PostgreSQL would believe it if the pid is in use again."""
        if process := postmaster(self._home):
            raise EmbeddedServerError(
                f"process {process.pid} serves {self._home.cluster}, started by somebody else; stop it first"
            )
        (self._home.cluster / "postmaster.pid").unlink(missing_ok=True)
        self._home.remove_sockets()

    def _serve(self, binaries: Binaries, account: Account | None, lock: FileLock) -> None:
        cluster, sockets = self._home.cluster, self._home.socket_dir
        fixed = {
            "listen_addresses": "",
            "unix_socket_directories": "." if sockets == cluster else str(sockets),
            "unix_socket_permissions": "0700",
            "cluster_name": self._home.mark,
        }
        options = [f"--{name}={value}" for name, value in {**self._settings, **fixed}.items()]
        with self._home.open_log() as log, way_into(cluster, account) as (path, descriptors):
            command: list[StrPath] = [binaries.bindir / "postgres", "-D", path, *options]
            run(detached(command), account=account, output=log, inherit=[lock.fileno(), *descriptors])


@contextmanager
def way_into(directory: Path, account: Account | None) -> Iterator[tuple[Path, list[int]]]:
    """Give a path by which processes of `account` reach a directory, and the descriptors they must inherit for that.

    The account may have no way into the directories above, and they stay closed: it goes in by the open descriptor.
    """
    if account is None or not _DESCRIPTORS.exists():
        yield directory, []
        return
    with _opened(directory) as descriptor:
        yield _DESCRIPTORS / str(descriptor), [descriptor]


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
