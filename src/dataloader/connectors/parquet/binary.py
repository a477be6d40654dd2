"""Rows of Arrow as the binary format of COPY, where the types of the file and of the table agree."""

from __future__ import annotations

import array
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from dataloader.connectors.parquet.json_text import json_texts
from dataloader.connectors.parquet.text import Lines
from dataloader.connectors.parquet.types import is_bytes, is_json, is_text, is_uuid, stored

Encoder = Callable[[pa.Array], Iterator[pa.Array | pa.Scalar]]
"""Returns what, joined, is the fields of one column: their lengths and their values."""

_BYTES = pa.large_binary()
_NOTHING = pa.scalar(b"", _BYTES)
_MISSING = pa.scalar(b"\xff\xff\xff\xff", _BYTES)
_JSONB_VERSION = pa.scalar(b"\x01", _BYTES)
_EPOCH_DAYS, _EPOCH_US = 10_957, 946_684_800_000_000
"""2000-01-01, from which the server counts."""
_FIRST_US = -210_866_803_200_000_000
"""The first instant that the server holds, as Arrow counts."""
_CODES = {1: "b", 2: "h", 4: "i", 8: "q"}
_INTEGERS = {"smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64()}
_FLOATS = {"real": pa.float32(), "double precision": pa.float64()}
_STAMPS = {"timestamp without time zone": False, "timestamp with time zone": True}


def encoder(kind: pa.DataType, column: str, *, raw: bool) -> Encoder | None:
    """Return what writes a column of the file for a column of the table; None if the server is to read it as text.

    Args:
        kind: Of the file's column.
        column: Type of the table's column, as the server calls it.
        raw: Whether bytes are text.
    """
    inner = stored(kind)
    if types.is_null(inner):
        return _missing
    if is_uuid(kind):
        return _uuid if column == "uuid" else None
    if is_json(kind) or types.is_nested(inner):
        return _jsonb if column == "jsonb" else None
    if is_text(inner) or (is_bytes(inner) and raw):
        return _varying if column == "text" or column.startswith("character varying") else None
    if is_bytes(inner):
        return _varying if column == "bytea" else None
    return _number(inner, column)


def _number(kind: pa.DataType, column: str) -> Encoder | None:
    """Return what writes values of one size."""
    if types.is_integer(kind) and column in _INTEGERS:
        wanted = _INTEGERS[column]
        bits = kind.bit_width + types.is_unsigned_integer(kind)
        return partial(_fixed, change=lambda values: values.cast(wanted)) if bits <= wanted.bit_width else None
    if types.is_boolean(kind) and column == "boolean":
        return partial(_fixed, change=lambda values: values.cast(pa.int8()))
    if types.is_date32(kind) and column == "date":
        return partial(_fixed, change=_days)
    if types.is_timestamp(kind) and _STAMPS.get(column) == (kind.tz is not None):
        return partial(_fixed, change=_instants)
    if types.is_time(kind) and column == "time without time zone":
        return partial(_fixed, change=_microseconds)
    return partial(_fixed, change=_as_it_is) if _FLOATS.get(column) == kind else None


def as_records(columns: Sequence[pa.Array], encoders: Sequence[Encoder]) -> Lines:
    """Render rows, given as columns of one length."""
    head = pa.scalar(struct.pack(">h", len(columns)), _BYTES)
    parts: list[pa.Array | pa.Scalar] = [head]
    for column, encode in zip(columns, encoders, strict=True):
        parts += encode(_plain(column))
    return Lines(pc.binary_join_element_wise(*parts, _NOTHING))


def _plain(column: pa.Array) -> pa.Array:
    """Return the values behind a dictionary or an extension."""
    while types.is_dictionary(column.type) or isinstance(column.type, pa.BaseExtensionType):
        column = column.dictionary_decode() if types.is_dictionary(column.type) else column.storage
    return column


def _varying(column: pa.Array) -> Iterator[pa.Array | pa.Scalar]:
    values = column.cast(_BYTES)
    yield _swapped(pc.binary_length(values).cast(pa.int32()).fill_null(-1))
    yield values.fill_null(b"") if values.null_count else values


def _jsonb(column: pa.Array) -> Iterator[pa.Array | pa.Scalar]:
    texts = pa.array(json_texts(column), pa.large_string()) if types.is_nested(column.type) else column
    return _varying(pc.binary_join_element_wise(_JSONB_VERSION, texts.cast(_BYTES), _NOTHING))


def _missing(column: pa.Array) -> Iterator[pa.Array]:
    yield pa.repeat(_MISSING, len(column))


def _uuid(column: pa.Array) -> Iterator[pa.Array | pa.Scalar]:
    return _sized(column, column.cast(_BYTES))


def _fixed(column: pa.Array, *, change: Callable[[pa.Array], pa.Array]) -> Iterator[pa.Array | pa.Scalar]:
    values = change(column)
    return _sized(values, _swapped(values))


def _sized(column: pa.Array, values: pa.Array) -> Iterator[pa.Array | pa.Scalar]:
    length = pa.scalar(struct.pack(">i", column.type.bit_width // 8), _BYTES)
    if column.null_count:
        yield pc.if_else(column.is_valid(), pc.binary_join_element_wise(length, values, _NOTHING), _MISSING)
    else:
        yield length
        yield values


def _swapped(values: pa.Array) -> pa.Array:
    """Return numbers as bytes, the highest first; what is missing is any number."""
    size = values.type.bit_width // 8
    numbers = array.array(_CODES[size])
    numbers.frombytes(values.buffers()[1].slice(values.offset * size, len(values) * size))
    if sys.byteorder == "little":
        numbers.byteswap()
    return pa.Array.from_buffers(pa.binary(size), len(values), [None, pa.py_buffer(numbers)]).cast(_BYTES)


def _as_it_is(column: pa.Array) -> pa.Array:
    return column


def _days(column: pa.Array) -> pa.Array:
    days = column.cast(pa.int32())
    _check_from(days, _FIRST_US // 86_400_000_000)
    return pc.subtract(days, pa.scalar(_EPOCH_DAYS, pa.int32()))


def _instants(column: pa.Array) -> pa.Array:
    instants = _microseconds(column)
    _check_from(instants, _FIRST_US)
    return pc.subtract(instants, _EPOCH_US)


def _microseconds(column: pa.Array) -> pa.Array:
    """Return times as microseconds, nanoseconds rounded as the server does it."""
    kind = column.type
    if kind.unit != "ns":
        if kind.unit != "us":
            column = column.cast(pa.time64("us") if types.is_time(kind) else pa.timestamp("us", kind.tz))
        return column.cast(pa.int64())
    numbers = column.cast(pa.int64())
    whole = pc.divide(numbers, 1_000)
    rest = pc.subtract(numbers, pc.multiply(whole, 1_000))
    up, down = (pc.greater_equal(rest, 500).cast(pa.int64()), pc.less_equal(rest, -500).cast(pa.int64()))
    return pc.subtract(pc.add(whole, up), down)


def _check_from(values: pa.Array, first: int) -> None:
    """Refuse days and instants before what the server holds: the last it would take for infinite.

    Raises:
        OverflowError: There are some.
    """
    least = pc.min(values).as_py()
    if least is not None and least < first:
        raise OverflowError("a day before 4714 BC")
