"""Makes any value fit for a JSON column: whatever a pipeline returns or raises, its end can be written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

DEPTH_LIMIT = 32
TEXT_LIMIT = 20_000
JSON_LIMIT_BYTES = 1_048_576
LONG_DIGITS = 4_000
READ_DEPTH_LIMIT = 500
"""Deepest value that is kept and read back: Python's own limit lies above, and depends on who calls."""

_REPLACEMENT = "\ufffd"


class Unreadable(dict[str, object]):
    """Stands for a value that is nested too deep to be read; PostgreSQL keeps deeper ones than Python takes."""

    def __init__(self) -> None:
        super().__init__(unreadable="nested too deep")


def clean_text(text: str, limit: int = TEXT_LIMIT) -> str:
    """Return `text` without NUL and lone surrogates, cut to `limit` characters."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return cut.replace("\x00", _REPLACEMENT).encode("utf-8", "replace").decode("utf-8")


def clean_value(value: object, depth: int = 0) -> object:
    """Return the nearest JSON value: NaN and infinities become null, unknown types their text."""
    match value:
        case None | bool():
            return value
        case int():
            return value if abs(value) < 10**300 else clean_text(hex(value), 100)
        case float():
            return value if math.isfinite(value) else None
        case str():
            return clean_text(value)
        case Decimal() | UUID() | datetime() | date() | time():
            return str(value)
    if depth >= DEPTH_LIMIT:
        return clean_text(f"<{type(value).__name__}>", 200)
    return _clean_container(value, depth)


def _clean_container(value: object, depth: int) -> object:
    try:
        if isinstance(value, Mapping):
            return {clean_text(described(key), 500): clean_value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean_value(item, depth + 1) for item in value]
    except Exception as error:  # noqa: BLE001 - a container's own iteration may raise anything
        return f"<{type(value).__name__}: {type(error).__name__} in iteration>"
    return clean_text(described(value))


def described(value: object) -> str:
    """Return a value's own text, or what kept it from having one."""
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - a value's own __str__ may raise anything
        return f"<{type(value).__name__}: {type(error).__name__} in __str__>"


def dump(value: object, limit_bytes: int = JSON_LIMIT_BYTES) -> str:
    """Return the JSON text of a cleaned value; one that is too large is replaced by a note of its size."""
    text = json.dumps(clean_value(value), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    if len(text) <= limit_bytes:
        return text
    return json.dumps({"truncated": True, "bytes": len(text), "limit_bytes": limit_bytes})


def dump_exact(value: object) -> str:
    """Return the JSON text of a value that must arrive unchanged.

    Raises:
        ValueError: NaN, an infinity or a circular reference.
        TypeError: The value is not JSON.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


def dump_storable(value: object) -> str:
    """Return the JSON text of a value that must arrive unchanged, and that PostgreSQL can keep.

    Raises:
        ValueError: NaN, an infinity, NUL, a lone surrogate, a circular reference, more than 500 levels, or more than
            1 MiB in UTF-8.
        TypeError: The value is not JSON.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    size = len(text.encode("utf-8"))
    if size > JSON_LIMIT_BYTES:
        raise ValueError(f"{size} bytes are more than the limit of {JSON_LIMIT_BYTES}")
    if "\\u0000" in text and _has_nul(json.loads(text)):
        raise ValueError("a text holds NUL")
    if _may_be_deep(text, READ_DEPTH_LIMIT) and _is_deep(json.loads(text), READ_DEPTH_LIMIT):
        raise ValueError(f"it is nested deeper than {READ_DEPTH_LIMIT} levels")
    return text


def parse(text: str, depth_limit: int = READ_DEPTH_LIMIT) -> Any:
    """Return the value of a JSON text, `Unreadable` when it has more levels than the limit.

    An integer with more digits than Python reads stays text.
    """
    try:
        try:
            value = json.loads(text)
        except ValueError:
            value = json.loads(text, parse_int=_number)
    except RecursionError:
        return Unreadable()
    return Unreadable() if _may_be_deep(text, depth_limit) and _is_deep(value, depth_limit) else value


def _may_be_deep(text: str, limit: int) -> bool:
    return len(text) > 2 * limit and text.count("[") + text.count("{") > limit


def _is_deep(value: object, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _inside(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < LONG_DIGITS else digits


def _has_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any(_has_nul(key) or _has_nul(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_nul(item) for item in value)


def dump_result(value: object) -> str:
    """Return the JSON text of a value as it is where it can be kept, else of the nearest value that can."""
    try:
        return dump_storable(value)
    except (TypeError, ValueError, RecursionError):
        return dump(value)
