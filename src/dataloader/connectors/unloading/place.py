"""Where unloads may write, and what the file system's refusals mean."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dataloader.exceptions import PermanentError, UnavailableError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FOR_GOOD = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP}
)


def check_target(text: str, roots: Sequence[Path]) -> Path:
    """Return the directory to write to with links resolved; it is not looked for, and need not exist.

    Args:
        text: The path as it was asked for.
        roots: Directories below which may be written; none means nowhere.

    Raises:
        PermanentError: It lies outside the roots, or is no directory.
    """
    try:
        resolved = Path(text).resolve()
    except (OSError, RuntimeError, ValueError):
        raise PermanentError(f"{text[:200]!r} is not a path that can be written to") from None
    if not roots:
        raise PermanentError("nothing may be written here; name directories in DL_TARGET_ROOTS to allow it")
    if not any(resolved.is_relative_to(root.expanduser().resolve()) for root in roots):
        raise PermanentError(f"{text} lies outside the directories named in DL_TARGET_ROOTS")
    with storing(resolved):
        if resolved.exists() and not resolved.is_dir():
            raise PermanentError(f"{text} is a file; the target of an unload is a directory")
    return resolved


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn what the file system raises into our errors.

    Args:
        path: What is written, for messages.

    Raises:
        PermanentError: We may not write there.
        UnavailableError: The disk is full, or does not answer; a later attempt may succeed.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        if error.errno in _FULL:
            raise UnavailableError(f"{path} cannot be written: the disk is full ({reason})") from None
        if error.errno in _FOR_GOOD:
            raise PermanentError(f"{path} cannot be written: {reason}") from None
        raise UnavailableError(f"{path} cannot be written: {reason}") from None


def sync_directory(path: Path) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True, slots=True)
class LocalPlace:
    """A file of this machine.

    Attributes:
        folder: The hidden folder of the job.
        name: What the part is called at the target.
        stored: What it is called in the folder.
    """

    folder: Path
    name: str
    stored: str

    def open(self) -> LocalSink:
        """Create the file; it must not exist."""
        return LocalSink(self)


class LocalSink:
    """A file that is being written.

    Args:
        place: Where to.
    """

    def __init__(self, place: LocalPlace) -> None:
        self._place = place
        self._path = place.folder / place.stored
        with storing(self._path):
            self._file = self._path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            UnavailableError: The disk is full.
        """
        rest = memoryview(data)
        with storing(self._path):
            while rest:
                rest = rest[self._file.write(rest) :]

    def finish(self) -> str:
        """Make the file last, and return what it is called in the folder.

        Raises:
            UnavailableError: The disk is full.
        """
        with storing(self._path):
            os.fsync(self._file.fileno())
            self._file.close()
            sync_directory(self._place.folder)
        return self._place.stored

    def close(self) -> None:
        """Leave the file as it is."""
        self._file.close()
