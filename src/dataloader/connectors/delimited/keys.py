"""Keys of JSON objects: what the values of each seem to be."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import reduce

from dataloader.connectors.delimited.types import observe
from dataloader.connectors.loading.seen import Seen, wider

_STRINGS = frozenset({"date", "timestamp with time zone", "timestamp without time zone", "uuid"})
"""What a JSON string is taken for; a number in quotes is meant as text."""

_MOST_DIGITS = 1_000
"""A number with more of them is left as it is written."""


@dataclass(slots=True)
class KeyValues:
    """What the values of a key have been so far.

    Attributes:
        numbers: Numbers, as the server writes them.
        strings: Strings.
        kinds: Types of the others.
        fractions: Whether some number is written with a fraction or an exponent.
    """

    numbers: set[str] = field(default_factory=set)
    strings: set[str] = field(default_factory=set)
    kinds: set[str] = field(default_factory=set)
    fractions: bool = False

    def add(self, value: object) -> None:
        """Look at one more."""
        match value:
            case None:
                pass
            case bool():
                self.kinds.add("boolean")
            case int():
                self.numbers.add(str(value))
            case float() | Decimal():
                self.fractions = True
                self.numbers.add(_spelled_out(value))
            case str():
                self.strings.add(value)
            case _:
                self.kinds.add("jsonb")

    def seen(self) -> Seen:
        """Return what they are; a column that exists reads what is in a string, too."""
        all_of_them = observe(self.numbers | self.strings)
        return Seen(self._suggested(), all_of_them.kinds | self.kinds, all_of_them.extent)

    def _suggested(self) -> str | None:
        kinds = set(self.kinds)
        if self.numbers:
            kinds.add("numeric" if self.fractions else observe(self.numbers).suggested or "numeric")
        if self.strings:
            kind = observe(self.strings).suggested or "text"
            kinds.add(kind if kind in _STRINGS else "text")
        if len(kinds) > 1 and "jsonb" in kinds:
            return "jsonb"
        return reduce(wider, sorted(kinds), None)


def read_object(line: str) -> dict[str, object]:
    """Return a line's object; a line that is none shows when it is loaded."""
    try:
        value = json.loads(line, parse_float=_decimal) if line.strip() else {}
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _decimal(text: str) -> float | Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return float(text)


def _spelled_out(number: float | Decimal) -> str:
    """Return a number as the server writes it, without an exponent, unless that takes too many digits."""
    if isinstance(number, Decimal) and abs(number.adjusted()) < _MOST_DIGITS:
        return f"{number:f}"
    return str(number)
