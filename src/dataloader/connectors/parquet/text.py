"""Rows of Arrow as the text format of COPY: a line per row, whatever its values hold."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dataloader.connectors.parquet.json_text import json_texts
from dataloader.connectors.parquet.moments import DAY_S, END_DAY, FIRST_DAY, write_moment
from dataloader.connectors.parquet.types import is_bytes, is_text, is_uuid

_BYTES = pa.large_binary()
_NULL, _TAB, _NEWLINE, _NOTHING = (pa.scalar(text, _BYTES) for text in (b"\\N", b"\t", b"\n", b""))
_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r", b"\t": b"\\t"}
_PER_S = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}


class Lines:
    """Rows as COPY takes them.

    Args:
        lines: One value per row, its line end included if it has one.
    """

    def __init__(self, lines: pa.LargeBinaryArray) -> None:
        _, ends, data = lines.buffers()
        count, start = len(lines), lines.offset
        self._ends = memoryview(ends).cast("q")[start : start + count + 1]
        self._data = memoryview(data if data is not None else b"")
        self._taken = 0

    @property
    def left(self) -> int:
        """Rows that have not been taken."""
        return len(self._ends) - 1 - self._taken

    def take(self, limit_bytes: int, *, most: int | None = None) -> tuple[bytes, int]:
        """Return the next rows, up to the first that ends at or behind `limit_bytes`, and how many they are.

        Args:
            limit_bytes: Where to stop.
            most: At most so many rows.
        """
        first, start = self._taken, self._ends[self._taken]
        last = first + self.left if most is None else min(first + most, first + self.left)
        end = bisect_left(self._ends, start + limit_bytes, first + 1, last)
        self._taken = end
        return bytes(self._data[start : self._ends[end]]), end - first


def as_lines(columns: Sequence[pa.Array], *, raw: Sequence[bool]) -> Lines:
    """Render rows, given as columns of one length; of `raw` ones bytes are text already."""
    texts = [_text(column, raw=plain).fill_null(_NULL) for column, plain in zip(columns, raw, strict=True)]
    texts[-1] = pc.binary_join_element_wise(texts[-1], _NOTHING, _NEWLINE)
    return Lines(texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, _TAB))


def _text(column: pa.Array, *, raw: bool) -> pa.LargeBinaryArray:
    kind = column.type
    if is_uuid(kind):
        return _hex(column.storage, "")
    if isinstance(kind, pa.BaseExtensionType):
        return _text(column.storage, raw=raw)
    if types.is_dictionary(kind):
        return _text(column.dictionary_decode(), raw=raw)
    if is_bytes(kind) and not raw:
        return _hex(column, "\\\\x")
    if is_bytes(kind) or is_text(kind):
        return _escaped(column.cast(_BYTES))
    if types.is_nested(kind):
        return _escaped(pa.array(json_texts(column), pa.large_string()).cast(_BYTES))
    return _plain(column).cast(pa.large_string()).cast(_BYTES)


def _plain(column: pa.Array) -> pa.Array:
    """Return what casts to a text that the server reads as the same value."""
    kind = column.type
    if types.is_date(kind):
        return _moments(column.cast(pa.date32()).cast(pa.int32()), pa.date32(), None, zone="")
    if types.is_timestamp(kind):
        instants, zone = pa.timestamp(kind.unit), "+00" if kind.tz is not None else ""
        return _moments(column.cast(pa.int64()), instants, _PER_S[kind.unit], zone=zone)
    if types.is_duration(kind):
        unit = "us" if kind.unit == "ns" else kind.unit
        number = column.cast(pa.duration(unit), safe=False).cast(pa.int64()).cast(pa.string())
        return pc.binary_join_element_wise(number, _UNITS[unit], " ")
    return column.cast(pa.float32()) if types.is_float16(kind) else column


def _moments(numbers: pa.Array, kind: pa.DataType, per_s: int | None, *, zone: str) -> pa.Array:
    """Return days and instants as text; one by one those of years that Arrow writes in another way than the server."""
    per_day = DAY_S * per_s if per_s else 1
    first, end = (max(-(2**63), min(day * per_day, 2**63 - 1)) for day in (FIRST_DAY, END_DAY))
    near = pc.and_(pc.greater_equal(numbers, first), pc.less(numbers, end))
    texts = pc.binary_join_element_wise(pc.if_else(near, numbers, None).cast(kind).cast(pa.string()), zone, "")
    if pc.all(near).as_py() is not False:
        return texts
    written = [None if number is None else write_moment(number, per_s, zone) for number in numbers.to_pylist()]
    return pc.coalesce(texts, pa.array(written, pa.string()))


def _hex(column: pa.Array, prefix: str) -> pa.LargeBinaryArray:
    texts = [None if value is None else f"{prefix}{value.hex()}".encode() for value in column.to_pylist()]
    return pa.array(texts, _BYTES)


def _escaped(column: pa.LargeBinaryArray) -> pa.LargeBinaryArray:
    """Return texts without signs that mean something to COPY."""
    data = column.buffers()[2]
    content = b"" if data is None else data.to_pybytes()
    for sign in (sign for sign in _ESCAPES if sign in content):
        column = pc.replace_substring(column, sign, _ESCAPES[sign])
    return column
