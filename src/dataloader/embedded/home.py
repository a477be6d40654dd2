"""The directory of an embedded server: what lies where, and the marks its processes carry."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from dataloader.embedded.accounts import Account
from dataloader.embedded.errors import EmbeddedServerError

PORT = 5432
_SOCKET_PATH_LIMIT = 100  # bytes; sun_path holds 104 on macOS, 108 on Linux
_SHORT_PATHS = Path("/tmp")  # noqa: S108 - TMPDIR differs between processes that must find one another
_LOG_LIMIT_BYTES = 10 * 2**20
_TAIL_BYTES = 2_000
_PRIVATE_DIRECTORY = stat.S_IFDIR | 0o700


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under a data directory.

    Attributes:
        root: The data directory, absolute and without links.
        mark: Stands in the command line of every process of this server and of no other.
        socket_dir: Directory of the socket; the cluster itself, unless that makes too long an address.
    """

    root: Path
    mark: str
    socket_dir: Path

    @classmethod
    def at(cls, data_dir: Path) -> Self:
        """Lay out the home under `data_dir`; nothing is created."""
        root = data_dir.expanduser().resolve()
        mark = f"dataloader-{hashlib.sha256(os.fsencode(root)).hexdigest()[:12]}"
        cluster = root / "pgdata"
        fits = len(os.fsencode(cluster / f".s.PGSQL.{PORT}")) <= _SOCKET_PATH_LIMIT
        return cls(root, mark, cluster if fits else _SHORT_PATHS / mark)

    @property
    def cluster(self) -> Path:
        """PostgreSQL's data directory; exists only once it is complete."""
        return self.root / "pgdata"

    @property
    def unfinished_cluster(self) -> Path:
        """Where initdb works before the result is renamed."""
        return self.root / "pgdata.new"

    @property
    def start_lock(self) -> Path:
        """Held while the server is started or stopped; the three other locks are taken only under it."""
        return self.root / "start.lock"

    @property
    def users_lock(self) -> Path:
        """Shared by every process that uses the server."""
        return self.root / "users.lock"

    @property
    def server_lock(self) -> Path:
        """Inherited by every process of the server: free means that none is left."""
        return self.root / "server.lock"

    @property
    def watchdog_lock(self) -> Path:
        """Inherited by the watchdog: free means that there is none."""
        return self.root / "watchdog.lock"

    @property
    def log(self) -> Path:
        """What the server and the watchdog write."""
        return self.root / "postgres.log"

    def prepare(self) -> None:
        """Create the data directory, private to us.

        Raises:
            EmbeddedServerError: It cannot be created or used by this user.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.start_lock.touch(mode=0o600)
        except OSError as error:
            raise EmbeddedServerError(
                f"the data directory {self.root} cannot be used ({error.strerror}); "
                "run as its owner, or set DL_DATA_DIR to another directory"
            ) from error

    def prepare_sockets(self, account: Account | None) -> None:
        """Create the short directory for sockets if one is needed, private to `account` (None: to us).

        Raises:
            EmbeddedServerError: Somebody else was there first, and would get to see what we send.
        """
        if self.socket_dir == self.cluster:
            return
        self.socket_dir.mkdir(mode=0o700, exist_ok=True)
        status = self.socket_dir.lstat()
        owners = {os.geteuid(), account.uid if account else os.geteuid()}
        if status.st_mode != _PRIVATE_DIRECTORY or status.st_uid not in owners:
            raise EmbeddedServerError(
                f"{self.socket_dir} belongs to somebody else; remove it, or set DL_DATA_DIR to a shorter path"
            )
        if account:
            account.give(self.socket_dir)

    def remove_sockets(self) -> None:
        """Remove what a dead server left of its socket."""
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (self.socket_dir / name).unlink(missing_ok=True)

    def remove_socket_dir(self) -> None:
        """Remove the short directory for sockets if there is one."""
        if self.socket_dir != self.cluster and self.socket_dir.exists():
            self.socket_dir.rmdir()

    def open_log(self) -> BinaryIO:
        """Open the log for appending; a large one is put aside first, replacing the one before."""
        if self.log.exists() and self.log.stat().st_size > _LOG_LIMIT_BYTES:
            self.log.rename(self.log.with_suffix(".log.1"))
        return self.log.open("ab")

    def log_tail(self) -> str:
        """Return the end of the log, for an error message."""
        text = self.log.read_bytes() if self.log.exists() else b""
        return text[-_TAIL_BYTES:].decode(errors="replace").strip()
