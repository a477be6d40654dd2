"""One part of an unload: a file that is written once, and counted and hashed on the way."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from typing import Protocol

from dataloader.connectors.unloading.form import Packer


@dataclass(frozen=True, slots=True)
class Part:
    """A part that is written.

    Attributes:
        name: What it is called at the target.
        stored: What it is called until then; in a bucket, where it is called so from the beginning, its ETag.
        rows: Rows in it.
        bytes: Size of the file.
        sha256: Of the file, in hexadecimal digits.
    """

    name: str
    stored: str
    rows: int
    bytes: int
    sha256: str


class Sink(Protocol):
    """Where the bytes of a part go; every method blocks."""

    def write(self, data: bytes) -> None:
        """Add bytes.

        Raises:
            UnavailableError: There is no room for them.
        """
        ...

    def finish(self) -> str:
        """Make what was written last, and return what it is stored as."""
        ...

    def close(self) -> None:
        """Give up what has not been finished."""
        ...


class Place(Protocol):
    """Where a part is written to: a file of this run's own, so that a run that was given up on cannot touch it."""

    @property
    def name(self) -> str:
        """What the part is called at the target."""
        ...

    def open(self) -> Sink:
        """Begin to write."""
        ...


class PartFile:
    """A part that is being written; every method blocks and belongs into a thread.

    Args:
        place: Where to; nothing may be there.
        packer: What makes the file's bytes of those that come.

    Attributes:
        text_bytes: Bytes that came, before packing.
    """

    def __init__(self, place: Place, packer: Packer) -> None:
        self._name = place.name
        self._packer = packer
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._turn = threading.Lock()
        self.text_bytes = 0
        self._sink = place.open()

    def write(self, data: bytes) -> None:
        """Add bytes: of whole rows.

        Raises:
            UnavailableError: There is no room for them.
        """
        with self._turn:
            self.text_bytes += len(data)
            self._store(self._packer.compress(data))

    def finish(self, rows: int) -> Part:
        """Make the file last, and return what it is.

        Raises:
            UnavailableError: There is no room for it.
        """
        with self._turn:
            self._store(self._packer.flush())
            return Part(self._name, self._sink.finish(), rows, self._bytes, self._hash.hexdigest())

    def close(self) -> None:
        """Give up the file behind a write that a cancelled caller left behind; what is stored stays in the folder."""
        with self._turn:
            self._sink.close()

    def _store(self, data: bytes) -> None:
        self._sink.write(data)
        self._hash.update(data)
        self._bytes += len(data)
