"""Days and instants of any year as PostgreSQL writes them; Arrow and Python know those of four digits only."""

from __future__ import annotations

import re
from datetime import date

DAY_S = 86_400
FIRST_DAY, END_DAY = (date(1, 1, 1) - date(1970, 1, 1)).days, (date(9999, 12, 31) - date(1970, 1, 1)).days + 1
"""Of the years of four digits, counted from 1970."""

_MOMENT = re.compile(r"(\d{4,})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?(?:\+00)?)?( BC)?")
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097
"""After so many years the calendar repeats itself."""
_CYCLE = date(2000, 1, 1)
_EPOCH = date(1970, 1, 1).toordinal()


def read_moment(text: str) -> tuple[int, int]:
    """Return days since 1970, and microseconds of the day, of a day with a time in UTC or without.

    Raises:
        ValueError: It is none, or infinite.
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text} is no day of the calendar")
    year, month, day, hours, minutes, seconds = (int(part or 0) for part in found.groups()[:6])
    cycles, rest = divmod((1 - year if found[8] else year) - _CYCLE.year, _CYCLE_YEARS)
    days = date(_CYCLE.year + rest, month, day).toordinal() - _EPOCH + cycles * _CYCLE_DAYS
    return days, ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((found[7] or "").ljust(6, "0"))


def write_moment(number: int, per_s: int | None, zone: str) -> str:
    """Return the text of a day or instant.

    Args:
        number: Days since 1970, or parts of seconds.
        per_s: How many parts a second has: 1, a thousand or a million; None of days.
        zone: What stands behind the time.
    """
    days, rest = divmod(number, DAY_S * per_s) if per_s else (number, 0)
    cycles, day = divmod(days + _EPOCH - _CYCLE.toordinal(), _CYCLE_DAYS)
    found = date.fromordinal(_CYCLE.toordinal() + day)
    year = found.year + cycles * _CYCLE_YEARS
    text = f"{year if year > 0 else 1 - year:04}-{found:%m-%d}"
    if per_s:
        seconds, part = divmod(rest, per_s)
        text += f" {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{part * 1_000_000 // per_s:06}{zone}"
    return text if year > 0 else f"{text} BC"
