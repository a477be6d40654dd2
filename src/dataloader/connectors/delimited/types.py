"""Types of columns from a sample of their values, written as PostgreSQL reads them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import reduce

from dataloader.connectors.delimited.numbers import PLAIN, Writing
from dataloader.connectors.loading.seen import Seen, broad, measure, wider

INTEGER_DIGITS = 18
"""More digits may not fit a bigint."""

_DAY = r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_PATTERNS = {
    "boolean": r"(?i:true|false|t|f|yes|no)",
    "bigint": rf"[+-]?(?:0|[1-9]\d{{0,{INTEGER_DIGITS - 1}}})",
    "numeric": r"[+-]?(?:0|[1-9]\d*)?\.\d+|[+-]?(?:0|[1-9]\d*)\.?",
    "infinity": r"(?i:-?infinity)",
    "double precision": r"(?i:[+-]?(?:\d+\.?\d*|\.\d+)e[+-]?\d+|nan|[+-]?inf(?:inity)?)",
    "date": _DAY,
    "timestamp with time zone": rf"{_DAY}[ T]{_CLOCK} ?(?:Z|[+-]\d{{2}}(?::?\d{{2}})?)",
    "timestamp without time zone": rf"{_DAY}[ T]{_CLOCK}",
    "uuid": r"(?i:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
    "switch": r"(?i:y|n|on|off)",
}
_KIND = re.compile("|".join(f"({pattern})" for pattern in _PATTERNS.values()), re.ASCII)
"""A group for each kind; the first that takes a value counts."""

_KINDS = ("text", *_PATTERNS)
_NUMBERS = ("bigint", "numeric", "infinity", "double precision")


def observe(values: Iterable[str], writing: Writing = PLAIN) -> Seen:
    """Return what values are: the narrowest type that takes them all, text if they agree on nothing.

    A number with leading zeros is a code, and text.
    """
    numbers, sorts = set(values), defaultdict[str, list[str]](list)
    if writing.dates != "ISO":
        days = {value: kind for value in numbers if (kind := writing.day_kind(value))}
        numbers -= days.keys()
        sorts.update({kind: [] for kind in days.values()})
    for text in numbers if writing.plain_numbers else map(writing.number, numbers):
        sorts[_kind(text)].append(text)
    suggested = reduce(wider, map(broad, sorts), None)
    for text in sorts.pop("text", ()):
        stripped = text.strip(" ")
        sorts["text" if stripped == text else _kind(stripped)].append(stripped)
    measured = [number for kind in _NUMBERS for number in sorts.get(kind, ())]
    return Seen(suggested, frozenset(sorts), measure(measured))


def _kind(text: str) -> str:
    match = _KIND.fullmatch(text)
    return _KINDS[match.lastindex or 0 if match else 0]
