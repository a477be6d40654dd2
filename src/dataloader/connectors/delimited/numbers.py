"""How numbers and days are written, where it is not PostgreSQL's way."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

SPACES = " \u00a0\u202f"
"""A space between thousands is often one that does not break."""

_DAY = r"\d{1,2}[./-]\d{1,2}[./-]\d{4}"
_CLOCK = r"(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,9})?)?"
_DATE = re.compile(_DAY, re.ASCII)
_TIMESTAMP = re.compile(rf"{_DAY} {_CLOCK}", re.ASCII)

DateOrder = Literal["ISO", "DMY", "MDY"]


@dataclass(frozen=True, slots=True)
class Writing:
    """How values are written.

    Attributes:
        decimal: Sign before the fraction.
        thousands: Sign between thousands, empty for none; a space stands for those that do not break, too.
        dates: `ISO`, or in which order day and month come before the year.
    """

    decimal: str = "."
    thousands: str = ""
    dates: DateOrder = "ISO"

    @property
    def plain_numbers(self) -> bool:
        """Whether numbers are written as PostgreSQL reads them."""
        return self.decimal == "." and not self.thousands

    def number(self, text: str) -> str:
        """Return a number as PostgreSQL writes it; what is none stays none."""
        if self.plain_numbers:
            return text
        if self.decimal != "." and "." in text and self.thousands != ".":
            return f"?{text}"
        for sign in SPACES if self.thousands == " " else self.thousands:
            text = text.replace(sign, "")
        return text.replace(self.decimal, ".")

    def number_sql(self, column: str) -> str:
        """Return the same as an expression over a column of text."""
        if self.plain_numbers:
            return column
        dropped = SPACES if self.thousands == " " else self.thousands
        guarded = f"nullif({column}, '')"
        if self.decimal != "." and self.thousands != ".":
            guarded = f"replace({guarded}, '.', '?')"
        return f"translate({guarded}, {_literal(self.decimal + dropped)}, '.')"

    def day_kind(self, text: str) -> str | None:
        """Return the type of a day or an instant written in this order, None if it is none."""
        if self.dates == "ISO":
            return None
        if _DATE.fullmatch(text):
            return "date"
        return "timestamp without time zone" if _TIMESTAMP.fullmatch(text) else None

    @property
    def setting(self) -> str:
        """The statement that makes a transaction read days in this order; unless told, `02/03/2024` is none."""
        return f"set local datestyle to 'ISO, {'YMD' if self.dates == 'ISO' else self.dates}'"


PLAIN = Writing()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
