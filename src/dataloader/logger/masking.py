"""Masking: no secret leaves the process in a log line, an error, an event or a page."""

from __future__ import annotations

import json
import math
import re
import threading
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Self
from urllib.parse import parse_qs, quote, quote_plus, unquote, urlsplit
from uuid import UUID

from pydantic import SecretStr

from dataloader.config import Settings
from dataloader.logger.names import is_sensitive
from dataloader.logger.patterns import MASK, mask_text

_SHORTEST = 4
_DEEPEST = 20
_MOST_NODES = 200_000
_HARMLESS = (bool, int, Decimal, date, time, timedelta, UUID)


class Masker:
    """Replaces secrets by `***`; never raises, and where it cannot tell, masks too much.

    Args:
        secrets: Values to mask wherever they occur, as `register` takes them.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._forms: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        for secret in secrets:
            self.register(secret)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Return a masker that knows every secret of the settings."""
        values = [(name, getattr(settings, name)) for name in type(settings).model_fields]
        values += [(name, inner) for name, value in values if isinstance(value, dict) for inner in value.values()]
        return cls(
            part
            for name, value in values
            if isinstance(value, SecretStr)
            for part in _secrets_in(name, value.get_secret_value())
        )

    def register(self, secret: str) -> None:
        """Mask this value from now on, as URLs, JSON and Python spell it too; under 4 characters: ignored."""
        with self._lock:
            self._forms |= {form for form in _spellings(secret) if len(form) >= _SHORTEST}
            longest_first = sorted(self._forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, value: str) -> str:
        """Return `value` without registered secrets and without what looks like one."""
        pattern = self._pattern
        if pattern is None:
            return mask_text(value)
        masked = mask_text(pattern.sub(MASK, value))
        # What stood around a mask can form the secret anew ("***a" in "***aa"): then nothing is shown.
        return MASK if pattern.search(masked) else masked

    def value(self, obj: object) -> object:
        """Return a masked copy of `obj`.

        Numbers, dates and ids stay as they are, containers are copied, everything else becomes text. What
        is nested deeper than 20 levels, or comes after the first 200,000 values, is masked.
        """
        return _Walk(self).node(obj, 0)

    def fields(self, mapping: Mapping[str, object]) -> dict[str, object]:
        """Return a masked copy of the fields of a log line."""
        walk = _Walk(self)
        return {name: walk.entry(name, value, 0) for name, value in mapping.items()}


class _Walk:
    """One pass over a nested value, bounded in depth and in the number of values."""

    __slots__ = ("_left", "_masker")

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._left = _MOST_NODES

    def node(self, obj: object, depth: int) -> object:
        """Return the masked copy of one value."""
        if obj is None or isinstance(obj, _HARMLESS):
            return obj
        self._left -= 1
        if depth > _DEEPEST or self._left < 0:
            return MASK
        try:
            return self._copy(obj, depth)
        except Exception as error:  # noqa: BLE001 - the objects are anyone's, their errors too
            return f"<{type(obj).__name__} that cannot be shown: {type(error).__name__}>"

    def entry(self, name: object, value: object, depth: int) -> object:
        """Return the masked copy of what stands under `name`."""
        known = name.decode("latin-1") if isinstance(name, bytes) else name
        if isinstance(known, str) and is_sensitive(known):
            return value if value is None or isinstance(value, bool) else MASK
        return self.node(value, depth)

    def _copy(self, obj: object, depth: int) -> object:
        match obj:
            case str():
                return self._masker.text(str(obj))
            case float():
                return obj if math.isfinite(obj) else str(obj)
            case bytes() | bytearray():
                return self._masker.text(obj.decode("utf-8", "backslashreplace"))
            case Mapping():
                return {self._key(key): self.entry(key, item, depth + 1) for key, item in obj.items()}
            case tuple():
                return self._tuple(obj, depth)
            case list() | set() | frozenset() | deque():
                return [self.node(item, depth + 1) for item in obj]
            case BaseException():
                return self._masker.text(f"{type(obj).__name__}: {obj}")
        return self._masker.text(str(obj))

    def _tuple(self, obj: tuple[object, ...], depth: int) -> object:
        """Copy a tuple; a named one becomes a mapping, and a pair may be a name and its value."""
        names: object = getattr(obj, "_fields", None)
        if isinstance(names, tuple):
            return self._copy(dict(zip(names, obj, strict=False)), depth)
        if len(obj) == 2:
            return (self.node(obj[0], depth + 1), self.entry(obj[0], obj[1], depth + 1))
        return tuple(self.node(item, depth + 1) for item in obj)

    def _key(self, key: object) -> str | int | float | bool | None:
        if key is None or isinstance(key, int | float):
            return key
        return self._masker.text(key.decode("latin-1") if isinstance(key, bytes) else str(key))


def _spellings(secret: str) -> set[str]:
    """Return how the secret reads in URLs, JSON and tracebacks."""
    raw = secret.encode("utf-8", "surrogatepass")
    return {
        secret,
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        repr(secret)[1:-1],
    }


def _secrets_in(name: str, value: str) -> list[str]:
    """Return what is secret in a setting: of an address of a database its password, of any other all."""
    if not name.endswith(("_dsn", "_connections")):
        return [value]
    parts = urlsplit(value)
    written = parts.password or ""
    return [written, unquote(written), *parse_qs(parts.query).get("password", [])]
