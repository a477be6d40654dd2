"""How rows are written: what the server is asked for, and how that becomes the bytes of a file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from dataloader.exceptions import PermanentError

if TYPE_CHECKING:
    from dataloader.connectors.parquet.writer import ParquetPacker

Compression = Literal["none", "gzip", "snappy", "zstd"]

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

    @property
    def text(self) -> Csv:
        """How the server is to send rows."""
        return self

    def packer(self, columns: Mapping[str, str]) -> Packer:
        """Return what writes a file of these columns."""
        del columns
        return zlib.compressobj(_LEVEL, wbits=_GZIP_WINDOW) if self.compression == "gzip" else Plain()


@dataclass(frozen=True, slots=True)
class Parquet:
    """Rows in columns, with types.

    Attributes:
        suffix: How names of files end.
        text: How the server is to send rows.
        compression: How columns are packed.
    """

    suffix: ClassVar[str] = ".parquet"
    text: ClassVar[Csv] = Csv(header=False)

    compression: Compression = "zstd"

    def __post_init__(self) -> None:
        self._writer()

    def packer(self, columns: Mapping[str, str]) -> Packer:
        """Return what writes a file of these columns."""
        return self._writer()(columns, self.compression)

    def _writer(self) -> type[ParquetPacker]:
        """Return what writes files.

        Raises:
            PermanentError: It is not installed.
        """
        try:
            from dataloader.connectors.parquet.writer import ParquetPacker  # noqa: PLC0415 - of an extra
        except ImportError:
            raise PermanentError(
                "what writes Parquet is not installed: pip install pyarrow (the extra `parquet`)"
            ) from None
        return ParquetPacker


Form = Csv | Parquet
