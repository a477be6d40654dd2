"""What a Parquet file says of itself, and its rows as Arrow has them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dataloader.connectors.delimited.sample import MAX_COLUMNS
from dataloader.connectors.files.unpack import Swell, UnpackLimits
from dataloader.connectors.parquet.binary import Encoder, as_records, encoder
from dataloader.connectors.parquet.text import Lines, as_lines
from dataloader.connectors.parquet.types import column_type, is_bytes, stored
from dataloader.exceptions import PermanentError

BATCH_ROWS = 16_384
BATCH_BYTES = 16 * 1024 * 1024
"""How much is decoded at a time, unless a single row is larger."""

_BUFFER_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ParquetTable:
    """A Parquet file of this machine.

    Attributes:
        name: The file as people know it.
        kinds: Types of its columns.
        columns: What the file calls its columns, and the type that takes each; None for one of nulls.
        metadata: What it says of its row groups.
    """

    path: Path
    name: str
    kinds: tuple[pa.DataType, ...] = field(repr=False)
    columns: tuple[tuple[str, str | None], ...]
    metadata: pq.FileMetaData = field(repr=False)

    @property
    def rows(self) -> int:
        """How many it says it holds."""
        return int(self.metadata.num_rows)

    @property
    def row_bytes(self) -> float:
        """Bytes of a row, on average, before they are packed."""
        size: int = sum(group.total_byte_size for group in self._groups())
        return max(size / max(self.rows, 1), 1.0)

    def end_of_group(self, row: int) -> int:
        """Return the number of the first row behind the row group that a row is in."""
        end = 0
        for group in self._groups():
            end += group.num_rows
            if row < end:
                break
        return end

    def batches(self, start: int) -> Iterator[pa.RecordBatch]:
        """Yield the rows from number `start` on; several may read at the same time, from threads of their own."""
        with _opened(self.path, self.metadata) as file:
            before = 0
            for number, group in enumerate(self._groups()):
                skip = max(start - before, 0)
                before += group.num_rows
                if start < before:
                    batches = file.iter_batches(_batch_rows(group), row_groups=[number])
                    yield from _counted(batches, skip, group.num_rows)

    def rendering(self, asked: Sequence[str | None]) -> Rendering:
        """Return how rows are written: bytes as text where they are asked for as anything but bytea."""
        raw = tuple(
            is_bytes(stored(kind)) and wanted not in {None, "bytea"}
            for kind, wanted in zip(self.kinds, asked, strict=True)
        )
        return Rendering(self.kinds, raw)

    def _groups(self) -> Iterator[pq.RowGroupMetaData]:
        return (self.metadata.row_group(number) for number in range(self.metadata.num_row_groups))


@dataclass(slots=True)
class Rendering:
    """How the rows of a file are written.

    Attributes:
        kinds: Types of the file's columns.
        raw: Which columns' bytes are text.
        encoders: What writes each column in the binary format; None for the text format.
    """

    kinds: tuple[pa.DataType, ...]
    raw: tuple[bool, ...]
    encoders: tuple[Encoder, ...] | None = None

    def suit(self, columns: Sequence[str]) -> None:
        """Take the binary format, which the server reads twice as fast, if it has every value as these types have it.

        Args:
            columns: Types of the table's columns, in the order of the file's.
        """
        found = [
            encoder(kind, column, raw=raw) for kind, column, raw in zip(self.kinds, columns, self.raw, strict=True)
        ]
        encoders = tuple(encode for encode in found if encode is not None)
        self.encoders = encoders if len(encoders) == len(found) else None

    def lines(self, columns: Sequence[pa.Array]) -> Lines:
        """Render rows, given as columns of one length."""
        if self.encoders is None:
            return as_lines(columns, raw=self.raw)
        return as_records(columns, self.encoders)


async def open_table(path: Path, name: str, limits: UnpackLimits) -> ParquetTable:
    """Read what a file says of itself; from then on Arrow gives memory back that it needs no longer.

    Raises:
        PermanentError: It is damaged, or no Parquet, or swells too far.
    """
    return await asyncio.to_thread(_open, path, name, limits)


def _open(path: Path, name: str, limits: UnpackLimits) -> ParquetTable:
    pa.set_memory_pool(pa.system_memory_pool())
    with named(name), _opened(path) as file:
        schema = file.schema_arrow
        columns = tuple((part.name, column_type(part.type)) for part in schema)
        table = ParquetTable(path, name, tuple(schema.types), columns, file.metadata)
        if table.end_of_group(table.rows) != table.rows or table.rows < 0:
            raise ValueError("its row groups do not hold as many rows as it is said to")
    swell = Swell(name, limits)
    for chunk in _chunks(table.metadata):
        swell.add(taken=chunk.total_compressed_size, given=chunk.total_uncompressed_size)
    if not columns:
        raise PermanentError(f"{name} has no columns")
    if len(columns) > MAX_COLUMNS:
        raise PermanentError(f"{name} has {len(columns)} columns; a table of PostgreSQL can have {MAX_COLUMNS}")
    return table


def _chunks(metadata: pq.FileMetaData) -> Iterator[pq.ColumnChunkMetaData]:
    """Yield what a file says of each column of each row group."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        yield from (group.column(place) for place in range(group.num_columns))


def _opened(path: Path, metadata: pq.FileMetaData | None = None) -> pq.ParquetFile:
    return pq.ParquetFile(
        path, metadata=metadata, buffer_size=_BUFFER_BYTES, pre_buffer=False, coerce_int96_timestamp_unit="us"
    )


def _counted(batches: Iterator[pa.RecordBatch], skip: int, count: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a row group without so many at its beginning.

    Raises:
        ValueError: It holds more or less of them than it is said to.
    """
    read = 0
    for batch in batches:
        first = max(skip - read, 0)
        read += batch.num_rows
        if first < batch.num_rows and read <= count:
            yield batch.slice(first)
    if read != count:
        raise ValueError(f"a row group of {count} rows holds {read}")


def _batch_rows(group: pq.RowGroupMetaData) -> int:
    row_bytes = max(group.total_byte_size, 1) / max(group.num_rows, 1)
    return int(max(min(BATCH_BYTES / row_bytes, BATCH_ROWS), 1))


@contextmanager
def named(name: str) -> Iterator[None]:
    """Turn what the library says of a file into an error that names it.

    Raises:
        PermanentError: It is damaged, or holds what cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        text = " ".join(str(error).split())[:500]
        raise PermanentError(f"{name} is damaged, or Parquet of a kind that cannot be read: {text}") from None
