"""How a CSV file is written: what separates fields, what quotes them, how lines end."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

DELIMITERS = (",", ";", "\t", "|")
"""What is tried, the more usual first."""

NO_QUOTE = "\x01"
"""Stands for `quote=""`: the server needs some quote, and text does not hold this one."""

AS_BYTES = "surrogateescape"
"""How bytes that are no text are kept in a sample, so that places in it can be counted in bytes."""

_RECORDS = 200
_FIELD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Dialect:
    """How records are written.

    Attributes:
        delimiter: One ASCII character between fields.
        quote: One ASCII character around fields that hold delimiters, quotes or line ends.
        escape: One ASCII character before a quote inside of quotes; by default the quote itself.
        newline: What ends a record: a line feed, also behind a carriage return, or a carriage return alone.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = '"'
    newline: str = "\n"

    def parse(self, text: str) -> Iterator[list[str]]:
        """Yield the records of a text, blank lines left out; read them to the end, or drop the iterator, at once.

        The library's limit of a field is the process's: it is ours only meanwhile.
        """
        limit = csv.field_size_limit(_FIELD_BYTES)
        try:
            yield from filter(None, self._reader(text))
        finally:
            csv.field_size_limit(limit)

    def _reader(self, text: str) -> Iterator[list[str]]:
        doubled = self.escape == self.quote
        return csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=self.quote,
            doublequote=doubled,
            escapechar=None if doubled else self.escape,
        )


def find_dialect(
    text: str, *, delimiter: str | None = None, quote: str | None = None, escape: str | None = None
) -> Dialect:
    """Return the dialect a sample is written in; what is given is taken.

    The delimiter is the one that cuts most records into the same number of fields, and more than one.
    """
    quote = NO_QUOTE if quote == "" else quote or '"'
    newline = _newline(text, quote)
    dialects = [Dialect(sign, quote, escape or quote, newline) for sign in ([delimiter] if delimiter else DELIMITERS)]
    return max(dialects, key=lambda one: _agreement(text, one))


def _newline(text: str, quote: str) -> str:
    """Return what ends records: a carriage return alone only if there is no line feed outside of quotes."""
    if "\r" not in text or "\r\n" in text or "\n" not in text:
        return "\n" if "\n" in text or "\r" not in text else "\r"
    outside = text.split(quote)[::2]
    return "\n" if any("\n" in part for part in outside) else "\r"


def _agreement(text: str, dialect: Dialect) -> tuple[float, int]:
    """Return the share of records with the most frequent width, and that width; one field says nothing."""
    widths: Counter[int] = Counter()
    try:
        for _, record in zip(range(_RECORDS), dialect.parse(text), strict=False):
            widths[len(record)] += 1
    except csv.Error:
        return (0.0, 0)
    if not widths:
        return (0.0, 0)
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]))
    return (0.0, 0) if width == 1 else (round(count / widths.total(), 1), width)
