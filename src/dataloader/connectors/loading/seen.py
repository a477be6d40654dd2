"""What is known of the values of a column that comes, and which column of a table takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import reduce

_NUMBERS = frozenset({"bigint", "numeric", "double precision", "infinity"})
_DAYS = frozenset({"date", "infinity"})
_STAMPS = _DAYS | {"timestamp without time zone"}
_TAKEN = {
    "boolean": frozenset({"boolean", "switch"}),
    "numeric": _NUMBERS,
    "double precision": _NUMBERS,
    "date": _DAYS,
    "timestamp without time zone": _STAMPS,
    "timestamp with time zone": _STAMPS | {"timestamp with time zone"},
    "uuid": frozenset({"uuid"}),
}
"""What a column of a type reads, whatever its size."""

_BITS = {"smallint": 15, "integer": 31, "bigint": 63}
_BROAD = {
    "smallint": "bigint",
    "integer": "bigint",
    "real": "double precision",
    "infinity": "double precision",
    "switch": "text",
}
_ENDLESS = Decimal("Infinity")
_MOST_SCALE = 16_383
"""Most digits behind the point that a numeric holds."""

_WIDER = {
    frozenset({"bigint", "numeric"}): "numeric",
    frozenset({"bigint", "double precision"}): "numeric",
    frozenset({"numeric", "double precision"}): "numeric",
    frozenset({"date", "timestamp without time zone"}): "timestamp without time zone",
}


@dataclass(frozen=True, slots=True)
class Extent:
    """How large numbers are.

    Attributes:
        low: The least, or zero.
        high: The greatest, or zero.
        scale: Most digits behind the point, but for zeros at the end.
        whole: Whether all are written as integers.
    """

    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    scale: int = 0
    whole: bool = True

    def within(self, low: int, high: int) -> bool:
        """Return whether all are integers from `low` to `high`."""
        return self.whole and low <= self.low and self.high <= high

    def has_room_in(self, precision: int, scale: int) -> bool:
        """Return whether a numeric of so many digits holds all as they are."""
        bound = Decimal((0, (1,), precision - scale))
        return self.scale <= scale and -bound < self.low and self.high < bound


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of the values of a column that comes.

    Attributes:
        suggested: Type that a new column gets for them; None if nothing is known.
        kinds: Types that they are of, without sizes; `infinity` and `switch` (on, off) are read by several. None of
            them if no value has been seen.
        extent: How large those are that are numbers.
    """

    suggested: str | None = None
    kinds: frozenset[str] = frozenset()
    extent: Extent = Extent()


UNSEEN = Seen()


def declared(kind: str) -> Seen:
    """Return what is known of values that come out of a column of a type, written as PostgreSQL writes it."""
    return Seen(kind, frozenset({broad(kind)}), _extent_of(kind))


def measure(numbers: Iterable[str]) -> Extent:
    """Return how large numbers are; NaN has no size."""
    written = list(numbers)
    sized = [number for number in map(_number, written) if not number.is_nan()]
    whole = all(text.lstrip("+-").isdecimal() for text in written)
    scale = 0 if whole else max(map(_scale, sized), default=0)
    zero = Decimal(0)
    return Extent(min([zero, *sized]), max([zero, *sized]), scale, whole)


def wider(one: str | None, other: str) -> str:
    """Return the narrowest type that holds the values of both as they are; None holds none."""
    return other if one in {None, other} else _WIDER.get(frozenset({one, other}), "text")


def widened(column: str, seen: Seen) -> str | None:
    """Return the type that a column of a table needs for what comes, None if it needs no other.

    What no value has been seen of needs none; neither does a column of a type that is not among those widened.
    """
    old = plain(column)
    if old not in {*_TAKEN, *_BITS} or _takes(column, seen):
        return None
    return reduce(wider, map(broad, sorted(seen.kinds)), broad(old))


def broad(kind: str) -> str:
    """Return the type of all sizes of a kind: `bigint` for an integer, `numeric` for one with digits."""
    return _BROAD.get(plain(kind), plain(kind))


def plain(kind: str) -> str:
    """Return a type without its modifiers: `numeric(10,2)` as `numeric`, `timestamp(3) with time zone` likewise."""
    head, paren, rest = kind.partition("(")
    return head + rest.partition(")")[2] if paren else kind


def _takes(column: str, seen: Seen) -> bool:
    """Return whether a column reads every value, and keeps it as it is."""
    name, extent = plain(column), seen.extent
    if name in _BITS:
        bound: int = 1 << _BITS[name]
        return seen.kinds <= {"bigint", "numeric"} and extent.within(-bound, bound - 1)
    if name == "boolean" and "bigint" in seen.kinds:
        return seen.kinds <= _TAKEN[name] | {"bigint"} and extent.within(0, 1)
    size = _size(column) if name == "numeric" else None
    return seen.kinds <= _TAKEN[name] and (size is None or extent.has_room_in(*size))


def _extent_of(kind: str) -> Extent:
    """Return the extent of a type's values."""
    name = plain(kind)
    if name in _BITS:
        bound = Decimal(1 << _BITS[name])
        return Extent(-bound, bound - 1)
    if (size := _size(kind)) is None or name != "numeric":
        return Extent(-_ENDLESS, _ENDLESS, _MOST_SCALE, whole=False)
    precision, scale = size
    most = Decimal((0, (9,) * precision, -scale))
    return Extent(-most, most, max(scale, 0), whole=scale <= 0)


def _size(kind: str) -> tuple[int, int] | None:
    """Return precision and scale of a numeric, None if it holds all."""
    _, paren, rest = kind.partition("(")
    precision, _, scale = rest.partition(")")[0].partition(",")
    return (int(precision), int(scale or 0)) if paren else None


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return _ENDLESS


def _scale(number: Decimal) -> int:
    """Return how many digits a number has behind the point, but for zeros at the end."""
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or exponent >= 0:
        return 0
    zeros = 0
    while zeros < -exponent and (zeros >= len(digits) or not digits[-1 - zeros]):
        zeros += 1
    return -exponent - zeros
