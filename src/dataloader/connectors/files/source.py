"""What every kind of file offers: a version to tell changes by, and its bytes from any offset on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from dataloader.exceptions import PermanentError

BLOCK_BYTES = 512 * 1024
"""Most bytes of one block."""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What tells one state of a file from another.

    Attributes:
        size: Bytes as stored, None when the source does not say.
        token: Changes when the file does: a time of modification, an ETag; empty when the source has neither.
    """

    size: int | None
    token: str


class SourceFile(Protocol):
    """One file to read.

    Attributes:
        name: As people may see it, without secrets; stable across runs.
        seekable: Whether reading from an offset costs no reading of what is before it.
    """

    @property
    def name(self) -> str:
        """As people may see it, without secrets; stable across runs."""
        ...

    @property
    def seekable(self) -> bool:
        """Whether reading from an offset costs no reading of what is before it."""
        ...

    async def look(self) -> FileVersion:
        """Return the file's present version.

        Raises:
            PermanentError: There is no such file, or it may not be read.
            SourceError: It cannot be reached now.
        """
        ...

    def blocks(self, offset: int, *, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` on in blocks of any size; close it when you stop early.

        Raises:
            FileChangedError: The file is no longer the one of that version.
            SourceError: Reading failed; a later run may succeed.
        """
        ...


class FileChangedError(PermanentError):
    """The file changed after its load had begun: rows of two versions would be mixed."""

    code = "file_changed"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} changed after its load had begun; load the new file with a job of its own", file=name)
