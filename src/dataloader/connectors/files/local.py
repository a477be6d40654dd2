"""Files of this machine."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from dataloader.connectors.files.source import BLOCK_BYTES, FileChangedError, FileVersion
from dataloader.exceptions import PermanentError, SourceError


@dataclass(frozen=True, slots=True)
class LocalFile:
    """A regular file whose path has been checked."""

    path: Path

    @property
    def name(self) -> str:
        """The whole path."""
        return str(self.path)

    @property
    def seekable(self) -> bool:
        """Any offset is reached at once."""
        return True

    async def look(self) -> FileVersion:
        """Return size and time of modification.

        Raises:
            PermanentError: There is no such file, it may not be read, or it is not a regular one.
        """
        return await asyncio.to_thread(_look, self.path)

    async def blocks(self, offset: int, *, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` on, each block only if the file is still the one that was begun behind it."""
        file = await asyncio.to_thread(_open, self.path)
        try:
            await asyncio.to_thread(file.seek, offset)
            while block := await asyncio.to_thread(_read, file, self.name, version):
                yield block
        finally:
            file.close()


def _look(path: Path) -> FileVersion:
    with _open(path) as file:
        return version_of(file.fileno())


def _open(path: Path) -> FileIO:
    """Open a regular file; opening a pipe or a device could block for ever."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PermanentError(f"{path} does not exist") from None
    except OSError as error:
        raise PermanentError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PermanentError(f"{path} is not a regular file")
    return FileIO(descriptor, "rb")


def version_of(descriptor: int) -> FileVersion:
    """Return the version of an open file."""
    found = os.fstat(descriptor)
    return FileVersion(found.st_size, f"{found.st_size}-{found.st_mtime_ns}")


def _read(file: FileIO, name: str, version: FileVersion) -> bytes:
    try:
        block = file.read(BLOCK_BYTES)
        now = version_of(file.fileno())
    except OSError as error:
        raise SourceError(f"{name} could not be read on: {error.strerror}") from None
    if now != version:
        raise FileChangedError(name)
    return block
