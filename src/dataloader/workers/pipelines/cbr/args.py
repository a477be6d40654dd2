"""What `cbr.daily_rates` is asked to load."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from dataloader.connectors.identifiers import parse_target
from dataloader.exceptions import InvalidError

FIRST_DAY = dt.date(1992, 7, 1)
"""The first day the Bank of Russia set rates for."""

DAYS_AHEAD = 7
"""How far ahead may be asked: a rate set on Friday holds until Monday, and holidays are longer."""

_MOSCOW = dt.timezone(dt.timedelta(hours=3))
_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def last_day() -> dt.date:
    """Return the last day that may be asked for now."""
    return dt.datetime.now(_MOSCOW).date() + dt.timedelta(days=DAYS_AHEAD)


def _check_iso(value: object) -> object:
    if value is None or isinstance(value, dt.date) or (isinstance(value, str) and _ISO_DAY.fullmatch(value)):
        return value
    raise ValueError("must be a day like 2025-04-01")


def _check_bounds(value: dt.date | None) -> dt.date | None:
    if value is not None and not FIRST_DAY <= value <= last_day():
        raise ValueError(f"must lie between {FIRST_DAY} and {DAYS_AHEAD} days from now")
    return value


Day = Annotated[dt.date, BeforeValidator(_check_iso)]


class CbrRatesArgs(BaseModel):
    """A day, or a range of days with both ends, and where to put their rates."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"oneOf": [{"required": ["date"]}, {"required": ["start", "end"]}]},
    )

    date: Annotated[Day | SkipJsonSchema[None], Field(description="One day.")] = None
    start: Annotated[Day | SkipJsonSchema[None], Field(description="First day of a range.")] = None
    end: Annotated[Day | SkipJsonSchema[None], Field(description="Last day of the range, inclusive.")] = None
    table: Annotated[str, Field(description="Target, `name` or `schema.name`; created if missing.")] = "cbr_rates"
    by: Annotated[
        Literal["day", "currency"],
        Field(description="One request and chunk per day, or per currency and year (fewer for years of rates)."),
    ] = "day"

    @field_validator("date", "start", "end")
    @classmethod
    def _check_days(cls, value: dt.date | None) -> dt.date | None:
        return _check_bounds(value)

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        try:
            parse_target(value, schema="public")
        except InvalidError as error:
            raise ValueError(error.message) from None
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        given = (self.date is not None, self.start is not None, self.end is not None)
        if given not in {(True, False, False), (False, True, True)}:
            raise ValueError("give either date, or both start and end")
        if self.first > self.last:
            raise ValueError("start must not be after end")
        return self

    @property
    def first(self) -> dt.date:
        """First day asked for."""
        return self.date or self.start or FIRST_DAY

    @property
    def last(self) -> dt.date:
        """Last day asked for, inclusive."""
        return self.date or self.end or FIRST_DAY

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Every day asked for, in order."""
        count = (self.last - self.first).days + 1
        return tuple(self.first + dt.timedelta(days=number) for number in range(count))

    @property
    def years(self) -> tuple[tuple[dt.date, dt.date], ...]:
        """The range cut at the turns of years: first and last day of each part."""
        return tuple(
            (max(self.first, dt.date(year, 1, 1)), min(self.last, dt.date(year, 12, 31)))
            for year in range(self.first.year, self.last.year + 1)
        )
