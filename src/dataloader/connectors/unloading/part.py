"""One part of an unload: a file that is written once, and counted and hashed on the way."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dataloader.connectors.unloading.place import storing, sync_directory

Compression = Literal["none", "gzip"]

_LEVEL = 6
_GZIP_WINDOW = 31


@dataclass(frozen=True, slots=True)
class Csv:
    """How rows are written.

    Attributes:
        header: Whether every part begins with the columns' names.
        delimiter: One character between fields.
        null: What stands for a missing value; the same text as a value is quoted.
        compression: How files are packed.
    """

    header: bool = True
    delimiter: str = ","
    null: str = ""
    compression: Compression = "none"

    @property
    def suffix(self) -> str:
        """How names of files end."""
        return ".csv.gz" if self.compression == "gzip" else ".csv"


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is on the disk.

    Attributes:
        name: What it is called at the target.
        stored: What it is called until then.
        rows: Rows in it.
        bytes: Size of the file.
        sha256: Of the file, in hexadecimal digits.
    """

    name: str
    stored: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part is written to: a file of this run's own, so that a run that was given up on cannot touch it.

    Attributes:
        folder: The hidden folder of the job.
        name: What the part is called at the target.
        stored: What it is called in the folder.
    """

    folder: Path
    name: str
    stored: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.folder / self.stored


class PartFile:
    """A part that is being written; every method blocks and belongs into a thread.

    Args:
        place: Where to; the file must not exist.
        compression: How it is packed.

    Attributes:
        text_bytes: Bytes that came, before packing.
    """

    def __init__(self, place: Place, compression: Compression) -> None:
        self._place = place
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._turn = threading.Lock()
        self._packer = zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW) if compression == "gzip" else None
        self.text_bytes = 0
        with storing(place.path):
            self._file = place.path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            UnavailableError: The disk is full.
        """
        with self._turn:
            self.text_bytes += len(data)
            self._store(data if self._packer is None else self._packer.compress(data))

    def finish(self, rows: int) -> Part:
        """Make the file last, and return what it is.

        Raises:
            UnavailableError: The disk is full.
        """
        if self._packer is not None:
            self._store(self._packer.flush())
        with storing(self._place.path):
            os.fsync(self._file.fileno())
            self._file.close()
            sync_directory(self._place.folder)
        return Part(self._place.name, self._place.stored, rows, self._bytes, self._hash.hexdigest())

    def close(self) -> None:
        """Give up the file behind a write that a cancelled caller left behind; what is stored stays in the folder."""
        with self._turn:
            self._file.close()

    def _store(self, data: bytes) -> None:
        rest = memoryview(data)
        with storing(self._place.path):
            while rest:
                rest = rest[self._file.write(rest) :]
        self._hash.update(data)
        self._bytes += len(data)
