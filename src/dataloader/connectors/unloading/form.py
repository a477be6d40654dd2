"""How rows are written: what the server is asked for, and how that becomes the bytes of a file."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, Protocol

Compression = Literal["none", "gzip"]

_LEVEL = 6
_GZIP_WINDOW = 31


class Packer(Protocol):
    """Makes a file of the text that the server sends; every method blocks."""

    def compress(self, data: bytes, /) -> bytes:
        """Take whole rows, and return bytes of the file."""
        ...

    def flush(self) -> bytes:
        """Return the last bytes of the file."""
        ...


class Plain:
    """Leaves text as it is."""

    def compress(self, data: bytes, /) -> bytes:
        """Return what came."""
        return data

    def flush(self) -> bytes:
        """Return nothing more."""
        return b""


@dataclass(frozen=True, slots=True)
class Csv:
    """Rows as the server writes them.

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

    def packer(self) -> Packer:
        """Return what writes a file."""
        return zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW) if self.compression == "gzip" else Plain()
