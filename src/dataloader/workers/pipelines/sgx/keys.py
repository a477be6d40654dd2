"""Which key is which day: keys count trading sessions, and only a file itself says for sure which day it is of."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from pydantic import TypeAdapter, ValidationError

from dataloader.exceptions import SourceError

BEYOND = 3
"""So many keys without a file after the newest known one are taken for the end: fewer may be a hole."""

ESTIMATES = 12
"""After so many guesses at one day that missed, what is left is halved instead."""

_PAIRS = TypeAdapter(dict[dt.date, int])


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A session and its key."""

    day: dt.date
    key: int


ANCHOR = Pair(dt.date(2018, 1, 19), 5331)


class KeyBook:
    """What is known of days and keys.

    Pairs are confirmed by a file's own date, in this run or an earlier one. Keys grow with days, so that two pairs
    bound what lies between: next to one another, nothing does. What the exchange lists only helps to guess.
    """

    def __init__(self) -> None:
        self._keys: dict[dt.date, int] = {ANCHOR.day: ANCHOR.key}
        self._days: list[dt.date] = [ANCHOR.day]
        self._read: set[dt.date] = set()
        self._unsaved: set[dt.date] = set()
        self._trusted: set[int] = set()
        self._listed: dict[dt.date, int] = {}
        self._missing: set[int] = set()
        self._doubted: set[int] = set()

    def remember(self, year: int, stored: object) -> None:
        """Enter the pairs that earlier runs confirmed for a year, unless damaged or in contradiction."""
        try:
            pairs = _PAIRS.validate_python(stored or {})
        except ValidationError:
            return
        together = sorted({*(Pair(day, key) for known in (self._keys, pairs) for day, key in known.items())})
        if all(one.day < other.day and one.key < other.key for one, other in pairwise(together)):
            self._keys.update(pairs)
            self._days = sorted(self._keys)
            self._trusted.add(year)

    def list_newest(self, listed: Mapping[dt.date, int]) -> None:
        """Enter what the exchange lists."""
        self._listed = dict(listed)

    def confirm(self, day: dt.date, key: int) -> None:
        """Enter what a file says of itself; where an earlier run knew otherwise, nothing it knew is trusted any more.

        Raises:
            SourceError: Files read in this run contradict one another.
        """
        if not self._fits(day, key):
            self._distrust()
        if not self._fits(day, key):
            raise SourceError(f"key {key} has a file of {day}, which contradicts the exchange's other files")
        if day not in self._keys:
            insort(self._days, day)
            self._keys[day] = key
            self._unsaved.add(day)
        self._read.add(day)
        self._missing.discard(key)

    def miss(self, key: int) -> None:
        """Note that there is no file of a key; where an earlier run had one, nothing it knew is trusted any more.

        Raises:
            SourceError: There is always one, or was earlier in this run.
        """
        self._missing.add(key)
        if key in self._keys.values():
            self._distrust()
        if key in self._keys.values():
            raise SourceError(f"the exchange answers a page instead of the file of key {key}")

    def get(self, day: dt.date) -> int | None:
        """Return a day's key, None if it is not confirmed."""
        return self._keys.get(day)

    def bounds(self, day: dt.date) -> tuple[Pair, Pair | None]:
        """Return the confirmed pairs next to a day; None: none is known after it."""
        place = bisect_left(self._days, day)
        before, after = self._days[max(place - 1, 0)], [other for other in self._days[place : place + 2] if other > day]
        return Pair(before, self._keys[before]), Pair(after[0], self._keys[after[0]]) if after else None

    def next_try(self, day: dt.date, tries: int) -> int | None:
        """Return the key to ask for next, None if no key that is left can be the day's.

        Args:
            day: A weekday.
            tries: How many keys were asked for it already.
        """
        low, high = self.bounds(day)
        known = self._keys.get(day) or self._listed.get(day, 0)
        if day in self._keys or (known not in self._missing and low.key < known < (high.key if high else known + 1)):
            return known
        target = self._estimate(day, low, high)
        if high is None:
            return self._next_open(low.key, target)
        return self._next_between(low.key, high.key, target if tries < ESTIMATES else (low.key + high.key) // 2)

    def holes(self, day: dt.date) -> list[int]:
        """Return the keys without a file between the confirmed ones next to a day; one may have been the day's."""
        low, high = self.bounds(day)
        return [key for key in range(low.key + 1, high.key if high else 0) if key in self._missing]

    def next_doubt(self, day: dt.date) -> int | None:
        """Return a hole next to a day to ask for a second time: a busy exchange may answer a page for a file it has."""
        doubt = next((key for key in self.holes(day) if key not in self._doubted), None)
        if doubt is not None:
            self._doubted.add(doubt)
        return doubt

    def is_listed_without_file(self, day: dt.date) -> bool:
        """Return whether the exchange lists a day whose file it does not have."""
        return self._listed.get(day) in self._missing

    def take_news(self) -> Iterator[tuple[int, bool, dict[str, int]]]:
        """Yield year, whether what is stored for it still holds, and what this run confirmed, where that is new."""
        for year in sorted({day.year for day in self._unsaved}):
            pairs = {day.isoformat(): self._keys[day] for day in sorted(self._read) if day.year == year}
            yield year, year in self._trusted, pairs
            self._trusted.add(year)
        self._unsaved.clear()

    def _fits(self, day: dt.date, key: int) -> bool:
        if day <= ANCHOR.day:
            return (day, key) == (ANCHOR.day, ANCHOR.key)
        low, high = self.bounds(day)
        return self._keys.get(day, key) == key and low.key < key and (high is None or key < high.key)

    def _distrust(self) -> None:
        """Drop what earlier runs knew: the exchange has renumbered its files, or is another one."""
        self._keys = {day: key for day, key in self._keys.items() if day in self._read or day == ANCHOR.day}
        self._days = sorted(self._keys)
        self._unsaved |= self._read
        self._trusted.clear()

    def _estimate(self, day: dt.date, low: Pair, high: Pair | None) -> int:
        """Return a key by the share of weekdays between the nearest pairs, listed ones too."""
        near = [Pair(other, key) for other, key in self._listed.items() if _lies_between(Pair(other, key), low, high)]
        low = max([low, *(pair for pair in near if pair.day < day)])
        high = min([*([high] if high else []), *(pair for pair in near if pair.day > day)], default=None)
        ahead = weekdays_between(low.day, day)
        if high is None:
            return low.key + ahead
        return low.key + round(ahead * (high.key - low.key) / max(weekdays_between(low.day, high.day), 1))

    def _next_open(self, low: int, target: int) -> int | None:
        """Return a key above the newest known one: the estimate, else the middle of what lies before a missing one."""
        end = min((key for key in self._missing if key > low), default=max(target, low + 1) + 1)
        if end > low + 1:
            return max(target, low + 1) if target < end else (low + end) // 2
        return next((key for key in range(low + 1, low + 1 + BEYOND) if key not in self._missing), None)

    def _next_between(self, low: int, high: int, target: int) -> int | None:
        """Return the key nearest to the target that may be between two."""
        left = (key for key in range(low + 1, high) if key not in self._missing)
        return min(left, key=lambda key: abs(key - target), default=None)


def weekdays_between(start: dt.date, end: dt.date) -> int:
    """Return how many weekdays come after `start`, up to and with `end`."""
    weeks, rest = divmod((end - start).days, 7)
    return weeks * 5 + sum((start + dt.timedelta(days=number)).weekday() < 5 for number in range(1, rest + 1))


def _lies_between(pair: Pair, low: Pair, high: Pair | None) -> bool:
    after = low.day < pair.day and low.key < pair.key
    return after and (high is None or (pair.day < high.day and pair.key < high.key))
