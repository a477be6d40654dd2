"""Nested values as JSON: numbers keep all their digits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import date, time
from decimal import Decimal

import pyarrow as pa
from pyarrow import types

_NOT_FINITE = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
"""As PostgreSQL writes them."""


def json_texts(column: pa.Array) -> list[str | None]:
    """Return nested values as JSON, None for those that are missing."""
    kind = _python_type(column.type)
    values = column.cast(kind, safe=False).to_pylist()
    return [None if value is None else _text(value, kind) for value in values]


def _text(value: object, kind: pa.DataType) -> str:
    match value:
        case list() if types.is_map(kind):
            pairs = ((_key(key), _text(item, kind.item_type)) for key, item in value)
            return f"{{{','.join(f'{key}:{item}' for key, item in pairs)}}}"
        case list():
            return f"[{','.join(_text(item, kind.value_type) for item in value)}]"
        case dict():
            return f"{{{','.join(_members(value, kind))}}}"
        case _:
            return _leaf(value)


def _members(value: dict[str, object], kind: pa.StructType) -> Iterator[str]:
    return (f"{_key(name)}:{_text(item, kind.field(name).type)}" for name, item in value.items())


def _key(key: object) -> str:
    return json.dumps(key if isinstance(key, str) else str(key), ensure_ascii=False)


def _leaf(value: object) -> str:
    match value:
        case float() if not math.isfinite(value):
            return _NOT_FINITE[str(value)]
        case Decimal():
            return f"{value:f}"
        case bytes():
            return json.dumps(f"\\x{value.hex()}")
        case date() | time():
            return json.dumps(value.isoformat())
        case None | bool() | int() | float() | str():
            return json.dumps(value, ensure_ascii=False)
        case _:
            return json.dumps(str(value), ensure_ascii=False)


def _python_type(kind: pa.DataType) -> pa.DataType:
    """Return a type whose values Python can hold: microseconds, instants in UTC, dictionaries decoded."""
    if types.is_dictionary(kind):
        return _python_type(kind.value_type)
    if types.is_timestamp(kind):
        return pa.timestamp("us", "UTC" if kind.tz else None)
    if types.is_time64(kind):
        return pa.time64("us")
    if types.is_duration(kind):
        return pa.duration("us")
    if types.is_map(kind):
        return pa.map_(_python_type(kind.key_type), _python_type(kind.item_type))
    if types.is_struct(kind):
        return pa.struct([pa.field(part.name, _python_type(part.type)) for part in kind])
    return pa.large_list(_python_type(kind.value_type)) if _is_list(kind) else kind


def _is_list(kind: pa.DataType) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
