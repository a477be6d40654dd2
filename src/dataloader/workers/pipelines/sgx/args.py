"""What `sgx.futures` is asked to load."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

from pydantic import Field, field_validator

from dataloader.connectors.identifiers import parse_target
from dataloader.workers.pipelines.checks import checked
from dataloader.workers.pipelines.days import DayRange

FIRST_DAY = dt.date(2018, 1, 19)
"""The first day in today's format; older files are written otherwise."""

DAYS_AHEAD = 1
"""How far ahead may be asked, for whoever lives east of the exchange; such a day is passed over."""

_SINGAPORE = dt.timezone(dt.timedelta(hours=8))
_SATURDAY = 5


def last_day() -> dt.date:
    """Return the last day that may be asked for now."""
    return dt.datetime.now(_SINGAPORE).date() + dt.timedelta(days=DAYS_AHEAD)


class SgxFuturesArgs(DayRange):
    """A day, or a range of days with both ends, and where to put their settlement."""

    table: Annotated[str, Field(description="Target, `name` or `schema.name`; created if missing.")] = "sgx_futures"

    @classmethod
    def check_day(cls, day: dt.date) -> None:
        """Refuse a day without a file."""
        if not FIRST_DAY <= day <= last_day():
            raise ValueError(f"must lie between {FIRST_DAY}, the first day of today's format, and tomorrow")

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        checked(lambda: parse_target(value, schema="public"))
        return value

    @property
    def weekdays(self) -> tuple[dt.date, ...]:
        """The days asked for on which the exchange may have traded."""
        return tuple(day for day in self.days if day.weekday() < _SATURDAY)
