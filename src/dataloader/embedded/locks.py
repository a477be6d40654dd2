"""File locks that the kernel drops when their holder dies, however it dies."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

_POLL_S = 0.02


class FileLock:
    """A `flock` on a file of its own, not held until it is taken.

    The lock belongs to the open file: child processes that inherit the descriptor hold it too, until the last of them
    has closed it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def fileno(self) -> int:
        """Return the descriptor, for a child process to inherit."""
        return self._fd

    def try_exclusive(self) -> bool:
        """Take the lock alone, or change a shared one into it; on failure a shared one is lost."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def share(self) -> None:
        """Take the lock beside other sharers.

        Raises:
            BlockingIOError: Somebody holds it alone.
        """
        fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def release(self) -> None:
        """Give the lock up, for children that inherited it as well."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)

    def leave_to_children(self) -> None:
        """Close our end only: children that inherited the lock keep it."""
        os.close(self._fd)


def is_held(path: Path) -> bool:
    """Return whether anybody holds the lock on `path`."""
    with FileLock(path) as lock:
        return not lock.try_exclusive()


@asynccontextmanager
async def exclusive(path: Path) -> AsyncIterator[None]:
    """Hold the lock on `path` alone, waiting for it without blocking the loop."""
    with FileLock(path) as lock:
        while not lock.try_exclusive():  # noqa: ASYNC110 - another process holds it, and flock cannot be awaited
            await asyncio.sleep(_POLL_S)
        yield
