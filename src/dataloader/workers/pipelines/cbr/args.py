"""What `cbr.daily_rates` is asked to load."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dataloader.connectors.identifiers import parse_target
from dataloader.workers.pipelines.checks import checked
from dataloader.workers.pipelines.days import DayRange

FIRST_DAY = dt.date(1992, 7, 1)
"""The first day the Bank of Russia set rates for."""

DAYS_AHEAD = 7
"""How far ahead may be asked: a rate set on Friday holds until Monday, and holidays are longer."""

_MOSCOW = dt.timezone(dt.timedelta(hours=3))


def last_day() -> dt.date:
    """Return the last day that may be asked for now."""
    return dt.datetime.now(_MOSCOW).date() + dt.timedelta(days=DAYS_AHEAD)


class CbrRatesArgs(DayRange):
    """A day, or a range of days with both ends, and where to put their rates."""

    table: Annotated[str, Field(description="Target, `name` or `schema.name`; created if missing.")] = "cbr_rates"
    by: Annotated[
        Literal["day", "currency"],
        Field(description="One request and chunk per day, or per currency and year (fewer for years of rates)."),
    ] = "day"

    @classmethod
    def check_day(cls, day: dt.date) -> None:
        """Refuse a day without rates."""
        if not FIRST_DAY <= day <= last_day():
            raise ValueError(f"must lie between {FIRST_DAY} and {DAYS_AHEAD} days from now")

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        checked(lambda: parse_target(value, schema="public"))
        return value

    @property
    def years(self) -> tuple[tuple[dt.date, dt.date], ...]:
        """The range cut at the turns of years: first and last day of each part."""
        return tuple(
            (max(self.first, dt.date(year, 1, 1)), min(self.last, dt.date(year, 12, 31)))
            for year in range(self.first.year, self.last.year + 1)
        )
