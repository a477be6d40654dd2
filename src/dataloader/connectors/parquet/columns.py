"""Which column of Arrow holds what a column of PostgreSQL does, and how its texts become values."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from dataloader.connectors.parquet.moments import DAY_S, read_moment

_NUMERIC = re.compile(r"numeric\((\d+),(-?\d+)\)")


def _as_it_is(texts: pa.Array) -> pa.Array:
    return texts


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file.

    Attributes:
        kind: Its type.
        convert: Makes values of what the reader of CSV made of texts; raises what Arrow raises, or ValueError.
        read: What the reader of CSV makes.
    """

    kind: pa.DataType
    convert: Callable[[pa.Array], pa.Array] = _as_it_is
    read: pa.DataType = field(default_factory=pa.string)


def column_of(declared: str) -> Column:
    """Return what holds every value of a column, or says which it cannot.

    Args:
        declared: Its type, as PostgreSQL writes it.
    """
    if found := _NUMERIC.fullmatch(declared):
        return _decimal(int(found[1]), int(found[2]))
    return _COLUMNS.get(declared, _TEXT)


def _decimal(precision: int, scale: int) -> Column:
    """Return what holds so many digits; text if they are too many."""
    digits = max(precision - min(scale, 0), scale)
    if digits > 76:
        return _TEXT
    kind = (pa.decimal128 if digits <= 38 else pa.decimal256)(digits, max(scale, 0))
    return Column(kind, lambda texts: texts.cast(kind))


def _days(texts: pa.Array) -> pa.Array:
    try:
        return texts.cast(pa.date32())
    except pa.ArrowInvalid:
        days = [None if text is None else read_moment(text)[0] for text in texts.to_pylist()]
        return pa.array(days, pa.int32()).cast(pa.date32())


def _instants(zone: str | None) -> Callable[[pa.Array], pa.Array]:
    """Return what reads instants: of years of four digits at once, of others one by one."""
    kind = pa.timestamp("us", zone)

    def convert(texts: pa.Array) -> pa.Array:
        try:
            return texts.cast(kind)
        except pa.ArrowInvalid:
            values = [None if text is None else _microseconds(text) for text in texts.to_pylist()]
            return pa.array(values, pa.int64()).cast(kind)

    return convert


def _clock(texts: pa.Array) -> pa.Array:
    moments = pc.binary_join_element_wise("1970-01-01", texts, " ").cast(pa.timestamp("us"))
    return moments.cast(pa.int64()).cast(pa.time64("us"))


def _microseconds(text: str) -> int:
    days, rest = read_moment(text)
    return days * DAY_S * 1_000_000 + rest


def _uuids(texts: pa.Array) -> pa.Array:
    digits = pc.replace_substring(texts.fill_null("0" * 32), "-", "")
    values = pa.Array.from_buffers(pa.binary(16), len(digits), [None, _unhexed(digits)])
    return pa.ExtensionArray.from_storage(pa.uuid(), pc.if_else(texts.is_valid(), values, None))


def _bytes(texts: pa.Array) -> pa.Array:
    """Return what hexadecimal digits behind a backslash and an x stand for."""
    digits = pc.utf8_slice_codeunits(texts.fill_null("\\x"), 2)
    ends = pa.Array.from_buffers(pa.int32(), len(digits) + 1, [None, digits.buffers()[1]])
    halves = pc.divide(ends, pa.scalar(2, pa.int32())).buffers()[1]
    values = pa.Array.from_buffers(pa.binary(), len(digits), [None, halves, _unhexed(digits)])
    return pc.if_else(texts.is_valid(), values, None)


def _unhexed(digits: pa.Array) -> pa.Buffer:
    content = digits.buffers()[2]
    return pa.py_buffer(b"" if content is None else bytes.fromhex(str(content, "ascii")))


def _json(texts: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.json_(pa.string()), texts)


_TEXT = Column(pa.string())
_AT_ONCE = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
}
_COLUMNS = {
    **{name: Column(kind, read=kind) for name, kind in _AT_ONCE.items()},
    "date": Column(pa.date32(), _days),
    "time without time zone": Column(pa.time64("us"), _clock),
    "timestamp without time zone": Column(pa.timestamp("us"), _instants(None)),
    "timestamp with time zone": Column(pa.timestamp("us", "UTC"), _instants("UTC")),
    "uuid": Column(pa.uuid(), _uuids),
    "bytea": Column(pa.binary(), _bytes),
    **dict.fromkeys(("json", "jsonb"), Column(pa.json_(pa.string()), _json)),
}
