"""A day's file: a ZIP with one CSV, a row per series."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NoReturn

from dataloader.exceptions import SourceError
from dataloader.workers.pipelines.sgx.archive import is_archive, unpack

HEADER = ("DATE", "COM", "COM_MM", "COM_YY", "OPEN", "HIGH", "LOW", "CLOSE", "SETTLE", "VOLUME", "OINT", "SERIES")

_PRICE = re.compile(r"-?\d{1,15}(?:\.\d{1,12})?", re.ASCII)
_COUNT = re.compile(r"\d{1,15}", re.ASCII)
_DAY = re.compile(r"(\d{4})(\d{2})(\d{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quote:
    """One series on one day, named as the columns of the target table; None where nothing was traded or settled."""

    trade_date: dt.date
    series: str
    com: str
    contract_month: int
    contract_year: int
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    settle: Decimal | None
    volume: int | None
    open_interest: int | None


@dataclass(frozen=True, slots=True)
class Session:
    """A trading day."""

    day: dt.date
    quotes: tuple[Quote, ...]


def parse_session(document: bytes) -> Session | None:
    """Read a day's file; None if the document is not one: a missing key is answered with a page.

    Raises:
        SourceError: It is damaged, or its content is not what it should be; names row and column.
    """
    if not is_archive(document):
        return None
    try:
        quotes = tuple(_read_quotes(unpack(document).decode()))
    except UnicodeDecodeError as error:
        raise SourceError(f"the exchange's file is not text: {error.reason}") from None
    except csv.Error as error:
        raise SourceError(f"the exchange's file is not CSV: {error}") from None
    if not quotes:
        raise SourceError("the exchange's file has no rows")
    return Session(quotes[0].trade_date, quotes)


def _read_quotes(text: str) -> Iterator[Quote]:
    """Yield the rows, which are all of one day."""
    lines = csv.reader(io.StringIO(text, newline=""))
    _check_header(tuple(field.strip() for field in next(lines, [])))
    day: dt.date | None = None
    for fields in filter(None, lines):
        row = _Row(lines.line_num, fields)
        quote = row.quote()
        day = quote.trade_date if day is None else day
        if quote.trade_date != day:
            row.refuse("DATE", f"in a file of {day}")
        yield quote


def _check_header(header: tuple[str, ...]) -> None:
    if header == HEADER:
        return
    wrong = next((name for name, found in zip(HEADER, header, strict=False) if name != found), None)
    column = wrong or (*HEADER, "SERIES")[min(len(header), len(HEADER))]
    raise SourceError(
        f"the exchange's file, row 1, column {column}: not as expected, it has the columns {', '.join(header)[:200]}"
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of the file; `number` counts from 1, the header's."""

    number: int
    fields: list[str]

    def quote(self) -> Quote:
        """Read the line.

        Raises:
            SourceError: A field is not what it should be; names row and column.
        """
        self._check_length()
        return Quote(
            trade_date=self._day(),
            series=self._text("SERIES"),
            com=self._text("COM"),
            contract_month=self._count("COM_MM", 12) or self.refuse("COM_MM"),
            contract_year=self._count("COM_YY", 9_999) or self.refuse("COM_YY"),
            open=self._price("OPEN"),
            high=self._price("HIGH"),
            low=self._price("LOW"),
            close=self._price("CLOSE"),
            settle=self._price("SETTLE") or None,
            volume=self._count("VOLUME"),
            open_interest=self._count("OINT"),
        )

    def refuse(self, column: str, reason: str = "cannot be read") -> NoReturn:
        """Say what is wrong with a field.

        Raises:
            SourceError: Always.
        """
        shown = self._field(column)[:40]
        raise SourceError(f"the exchange's file, row {self.number}, column {column}: {shown!r} {reason}")

    def _check_length(self) -> None:
        count = len(self.fields)
        if count != len(HEADER):
            where = f"column {HEADER[count]} is missing" if count < len(HEADER) else f"more follows column {HEADER[-1]}"
            raise SourceError(f"the exchange's file, row {self.number}: {count} fields, {where}")

    def _field(self, column: str) -> str:
        return self.fields[HEADER.index(column)].strip()

    def _text(self, column: str) -> str:
        text = self._field(column)
        return text if text and text.isprintable() else self.refuse(column)

    def _day(self) -> dt.date:
        match = _DAY.fullmatch(self._field("DATE"))
        try:
            return dt.date(int(match[1]), int(match[2]), int(match[3])) if match else self.refuse("DATE")
        except ValueError:
            return self.refuse("DATE")

    def _price(self, column: str) -> Decimal | None:
        text = self._field(column)
        if not text:
            return None
        return Decimal(text) if _PRICE.fullmatch(text) else self.refuse(column)

    def _count(self, column: str, most: int = 10**15) -> int | None:
        text = self._field(column)
        if not text:
            return None
        return int(text) if _COUNT.fullmatch(text) and int(text) <= most else self.refuse(column)
