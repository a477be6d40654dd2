"""Types of columns from a sample of their values, written as PostgreSQL reads them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dataloader.connectors.delimited.numbers import PLAIN, Writing

INTEGER_DIGITS = 18
"""More digits may not fit a bigint."""

_BOOLEAN = re.compile(r"(?:true|false|t|f|yes|no)", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d*)", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:0|[1-9]\d*)?\.\d+|[+-]?(?:0|[1-9]\d*)\.?", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)e[+-]?\d+|nan|[+-]?inf(?:inity)?", re.IGNORECASE | re.ASCII)
_DAY = r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_DATE = re.compile(_DAY, re.ASCII)
_TIMESTAMP = re.compile(rf"{_DAY}[ T]{_CLOCK}", re.ASCII)
_TIMESTAMPTZ = re.compile(rf"{_DAY}[ T]{_CLOCK} ?(?:Z|[+-]\d{{2}}(?::?\d{{2}})?)", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

_KINDS = (
    (_BOOLEAN, "boolean"),
    (_INTEGER, "bigint"),
    (_DECIMAL, "numeric"),
    (_FLOAT, "double precision"),
    (_DATE, "date"),
    (_TIMESTAMPTZ, "timestamp with time zone"),
    (_TIMESTAMP, "timestamp without time zone"),
    (_UUID, "uuid"),
)
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
    found: str | None = None
    for value in values:
        kind = writing.day_kind(value) or _kind(writing.number(value))
        found = kind if found is None else wider(found, kind)
        if found == "text":
            return found
    return found or "text"


def wider(one: str, other: str) -> str:
    """Return the narrowest type that holds the values of both."""
    return one if one == other else _WIDER.get(frozenset({one, other}), "text")


def _kind(value: str) -> str:
    kind = next((kind for pattern, kind in _KINDS if pattern.fullmatch(value)), "text")
    return "numeric" if kind == "bigint" and len(value.lstrip("+-")) > INTEGER_DIGITS else kind
