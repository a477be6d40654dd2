"""Types of columns from a sample of their values, written as PostgreSQL reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import reduce

from dataloader.connectors.delimited.numbers import PLAIN, Writing

INTEGER_DIGITS = 18
"""More digits may not fit a bigint."""

_DAY = r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_PATTERNS = {
    "boolean": r"(?i:true|false|t|f|yes|no)",
    "bigint": rf"[+-]?(?:0|[1-9]\d{{0,{INTEGER_DIGITS - 1}}})",
    "numeric": r"[+-]?(?:0|[1-9]\d*)?\.\d+|[+-]?(?:0|[1-9]\d*)\.?",
    "double precision": r"(?i:[+-]?(?:\d+\.?\d*|\.\d+)e[+-]?\d+|nan|[+-]?inf(?:inity)?)",
    "date": _DAY,
    "timestamp with time zone": rf"{_DAY}[ T]{_CLOCK} ?(?:Z|[+-]\d{{2}}(?::?\d{{2}})?)",
    "timestamp without time zone": rf"{_DAY}[ T]{_CLOCK}",
    "uuid": r"(?i:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})",
}
_KIND = re.compile("|".join(f"({pattern})" for pattern in _PATTERNS.values()), re.ASCII)
"""A group for each type; the first that takes a value counts."""

_KINDS = ("text", *_PATTERNS)
_WIDER = {
    frozenset({"bigint", "numeric"}): "numeric",
    frozenset({"bigint", "double precision"}): "double precision",
    frozenset({"numeric", "double precision"}): "double precision",
    frozenset({"date", "timestamp without time zone"}): "timestamp without time zone",
}


def guess_type(values: Iterable[str], writing: Writing = PLAIN) -> str:
    """Return the narrowest type that takes all the values; text if there are none, or they agree on nothing.

    A number with leading zeros is a code, and text.
    """
    numbers, kinds = set(values), set[str]()
    if writing.dates != "ISO":
        days = {value: kind for value in numbers if (kind := writing.day_kind(value))}
        numbers -= days.keys()
        kinds.update(days.values())
    written = numbers if writing.plain_numbers else map(writing.number, numbers)
    places = {match.lastindex or 0 if match else 0 for match in map(_KIND.fullmatch, written)}
    return reduce(wider, kinds.union(_KINDS[place] for place in places), None) or "text"


def wider(one: str | None, other: str) -> str:
    """Return the narrowest type that holds the values of both; None holds none."""
    return other if one in {None, other} else _WIDER.get(frozenset({one, other}), "text")
