"""Makes any value fit for a JSON column: whatever a pipeline returns or raises, its end can be written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from uuid import UUID

DEPTH_LIMIT = 32
TEXT_LIMIT = 20_000
JSON_LIMIT_BYTES = 1_048_576
_REPLACEMENT = "\ufffd"


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
            return {clean_text(_described(key), 500): clean_value(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [clean_value(item, depth + 1) for item in value]
    except Exception as error:  # noqa: BLE001 - a container's own iteration may raise anything
        return f"<{type(value).__name__}: {type(error).__name__} in iteration>"
    return clean_text(_described(value))


def _described(value: object) -> str:
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
