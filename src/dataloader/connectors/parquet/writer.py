"""Rows that the server sends as CSV, written as Parquet."""

from __future__ import annotations

import io
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from dataloader.connectors.parquet.columns import Column, column_of
from dataloader.exceptions import PermanentError

GROUP_BYTES = 16 * 1024 * 1024

_MARK = b"-\n"
"""A line before every block: without it, the reader would take a text's first sign for a mark of the byte order."""

_PARSE = pa_csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False)


class ParquetPacker:
    """Makes a file of CSV without header, whose missing values are empty and whose empty texts are quoted.

    Args:
        columns: Name to type, as PostgreSQL writes it.
        compression: How Parquet calls it.
        group_bytes: So much text makes a row group.
    """

    def __init__(self, columns: Mapping[str, str], compression: str, *, group_bytes: int = GROUP_BYTES) -> None:
        pa.set_memory_pool(pa.system_memory_pool())
        self._columns = {name: column_of(kind) for name, kind in columns.items()}
        self._declared = columns
        self._schema = pa.schema([(name, column.kind) for name, column in self._columns.items()])
        self._file = io.BytesIO()
        self._writer = pq.ParquetWriter(self._file, self._schema, compression=compression)
        self._group_bytes = group_bytes
        self._batches: list[pa.RecordBatch] = []
        self._text_bytes = 0
        kinds = {str(place): column.read for place, column in enumerate(self._columns.values())}
        self._names = list(kinds)
        self._convert = pa_csv.ConvertOptions(
            column_types=kinds,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        )

    def compress(self, data: bytes, /) -> bytes:
        """Take whole rows, and return bytes of the file: of row groups, each once there is text enough.

        Raises:
            PermanentError: Parquet has no place for a value.
        """
        if data:
            self._batches.append(self._read(data))
            self._text_bytes += len(data)
        if self._text_bytes >= self._group_bytes:
            self._write()
        return self._taken()

    def flush(self) -> bytes:
        """Return the last bytes of the file."""
        if self._batches:
            self._write()
        self._writer.close()
        return self._taken()

    def _write(self) -> None:
        table = pa.Table.from_batches(self._batches, self._schema)
        self._batches, self._text_bytes = [], 0
        self._writer.write_table(table, row_group_size=table.num_rows)

    def _taken(self) -> bytes:
        """Return what has been written since the last time; the writer counts for itself where it stands."""
        data = self._file.getvalue()
        self._file.seek(0)
        self._file.truncate()
        return data

    def _read(self, data: bytes) -> pa.RecordBatch:
        text = _MARK + data
        how = pa_csv.ReadOptions(use_threads=False, block_size=len(text), skip_rows=1, column_names=self._names)
        table = pa_csv.read_csv(
            pa.BufferReader(text), read_options=how, parse_options=_PARSE, convert_options=self._convert
        ).combine_chunks()
        (batch,) = table.to_batches()
        values = [
            self._converted(name, column, texts)
            for (name, column), texts in zip(self._columns.items(), batch.columns, strict=True)
        ]
        return pa.record_batch(values, schema=self._schema)

    def _converted(self, name: str, column: Column, texts: pa.Array) -> pa.Array:
        try:
            return column.convert(texts)
        except (pa.ArrowException, ValueError, OverflowError) as error:
            reason = " ".join(str(error).split())[:200]
            raise PermanentError(
                f"column {name} holds what Parquet has no {self._declared[name]} for: {reason}; "
                "give a query that casts it to text"
            ) from None
