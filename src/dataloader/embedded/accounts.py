"""Whom the server runs as: PostgreSQL refuses to run as root."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dataloader.embedded.errors import EmbeddedServerError

_CANDIDATES = ("postgres", "_postgres", "nobody")


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the system that is not root."""

    uid: int
    gid: int

    def give(self, path: Path) -> None:
        """Make this account the owner of `path`."""
        os.chown(path, self.uid, self.gid)


def server_account(cluster: Path) -> Account | None:
    """Return the account the server must run as, or None for our own.

    A cluster that exists keeps its owner.

    Raises:
        EmbeddedServerError: We are root and there is no other account to use.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (status := cluster.stat()).st_uid != 0:
        return Account(status.st_uid, status.st_gid)
    for name in _CANDIDATES:
        with suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise EmbeddedServerError(
        "PostgreSQL does not run as root and there is no user 'postgres' or 'nobody'; "
        "create one, or set PG_HOST to a server"
    )
