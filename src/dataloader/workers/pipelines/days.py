"""A day or a range of days, as pipelines are asked for them."""

from __future__ import annotations

import datetime as dt
import re
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

_ISO_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def _check_iso(value: object) -> object:
    if value is None or isinstance(value, dt.date) or (isinstance(value, str) and _ISO_DAY.fullmatch(value)):
        return value
    raise ValueError("must be a day like 2025-04-01")


Day = Annotated[dt.date, BeforeValidator(_check_iso)]


class DayRange(BaseModel):
    """A day, or a range of days with both ends."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        json_schema_extra={"oneOf": [{"required": ["date"]}, {"required": ["start", "end"]}]},
    )

    date: Annotated[Day | SkipJsonSchema[None], Field(description="One day.")] = None
    start: Annotated[Day | SkipJsonSchema[None], Field(description="First day of a range.")] = None
    end: Annotated[Day | SkipJsonSchema[None], Field(description="Last day of the range, inclusive.")] = None

    @classmethod
    def check_day(cls, day: dt.date) -> None:
        """Refuse a day the source cannot have; any is accepted unless a subclass knows better.

        Raises:
            ValueError: It cannot have it.
        """

    @field_validator("date", "start", "end")
    @classmethod
    def _check_days(cls, value: dt.date | None) -> dt.date | None:
        if value is not None:
            cls.check_day(value)
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
        return self.date or self.start or dt.date.min

    @property
    def last(self) -> dt.date:
        """Last day asked for, inclusive."""
        return self.date or self.end or dt.date.min

    @property
    def days(self) -> tuple[dt.date, ...]:
        """Every day asked for, in order."""
        count = (self.last - self.first).days + 1
        return tuple(self.first + dt.timedelta(days=number) for number in range(count))
