"""Stops a server whose last user was killed: `python -m dataloader.embedded.watchdog DATA_DIR LOCK_FD`."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from dataloader.embedded.home import Home
from dataloader.embedded.locks import FileLock
from dataloader.embedded.processes import kill_remains, stop_server

_PERIOD_S = 0.2


def watch(home: Home, lock_fd: int) -> None:
    """Wait until nobody uses the server or its directory is gone, and see that it is stopped."""
    while home.start_lock.exists():
        if _retire(home, lock_fd):
            return
        time.sleep(_PERIOD_S)
    kill_remains(home)


def _retire(home: Home, lock_fd: int) -> bool:
    """Stop the server if nobody uses it; return whether nothing is left to watch."""
    with FileLock(home.start_lock) as start, FileLock(home.users_lock) as users:
        if not (start.try_exclusive() and users.try_exclusive() and stop_server(home)):
            return False
        # Under the start lock: the next user must find the watchdog's lock free and start another one.
        os.close(lock_fd)
        return True


if __name__ == "__main__":
    watch(Home.at(Path(sys.argv[1])), int(sys.argv[2]))
