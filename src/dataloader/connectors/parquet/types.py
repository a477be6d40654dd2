"""Which column of PostgreSQL takes what a column of Arrow holds."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types

MAX_DIGITS = 1_000
"""Most digits that PostgreSQL lets a numeric be declared with."""

_NAMES = {
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "numeric(20,0)",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
}
_KINDS = (
    (types.is_date, "date"),
    (types.is_time, "time without time zone"),
    (types.is_duration, "interval"),
    (types.is_nested, "jsonb"),
)


def stored(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind a dictionary or an extension."""
    while types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        kind = kind.value_type if types.is_dictionary(kind) else kind.storage_type
    return kind


def is_uuid(kind: pa.DataType) -> bool:
    """Return whether a column holds UUIDs."""
    return isinstance(kind, pa.BaseExtensionType) and bool(kind.extension_name == "arrow.uuid")


def is_json(kind: pa.DataType) -> bool:
    """Return whether a column's texts are JSON."""
    return isinstance(kind, pa.BaseExtensionType) and bool(kind.extension_name == "arrow.json")


def is_bytes(kind: pa.DataType) -> bool:
    """Return whether values are bytes, and not text."""
    kinds = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary, types.is_binary_view)
    return any(fits(kind) for fits in kinds)


def is_text(kind: pa.DataType) -> bool:
    """Return whether values are text."""
    return any(fits(kind) for fits in (types.is_string, types.is_large_string, types.is_string_view))


def column_type(kind: pa.DataType) -> str | None:
    """Return the type of the column that takes a column of a file unchanged; None for one of nulls, which any takes."""
    if is_uuid(kind) or is_json(kind):
        return "uuid" if is_uuid(kind) else "jsonb"
    kind = stored(kind)
    if types.is_null(kind):
        return None
    if types.is_decimal(kind):
        return _numeric(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return "timestamp without time zone" if kind.tz is None else "timestamp with time zone"
    if is_bytes(kind):
        return "bytea"
    return _NAMES.get(kind) or next((name for fits, name in _KINDS if fits(kind)), "text")


def _numeric(precision: int, scale: int) -> str:
    return f"numeric({precision},{scale})" if 0 <= scale <= precision <= MAX_DIGITS else "numeric"
