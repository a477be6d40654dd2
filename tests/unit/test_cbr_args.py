"""What `cbr.daily_rates` accepts as arguments."""

from __future__ import annotations

from datetime import date, timedelta

import jsonschema
import pytest
from pydantic import ValidationError

from dataloader.workers.pipelines.cbr.args import FIRST_DAY, CbrRatesArgs, last_day


def test_one_day_is_a_range_of_one() -> None:
    args = CbrRatesArgs.model_validate({"date": "2025-04-01"})

    assert args.days == (date(2025, 4, 1),)
    assert (args.table, args.by) == ("cbr_rates", "day")


def test_a_range_includes_both_ends_and_a_leap_day() -> None:
    args = CbrRatesArgs.model_validate({"start": "2024-02-28", "end": "2024-03-01"})

    assert args.days == (date(2024, 2, 28), date(2024, 2, 29), date(2024, 3, 1))


def test_a_range_is_cut_at_the_turns_of_years() -> None:
    args = CbrRatesArgs.model_validate({"start": "2022-12-30", "end": "2024-01-02"})

    assert args.years == (
        (date(2022, 12, 30), date(2022, 12, 31)),
        (date(2023, 1, 1), date(2023, 12, 31)),
        (date(2024, 1, 1), date(2024, 1, 2)),
    )


def test_the_first_and_the_last_day_possible_are_accepted() -> None:
    args = CbrRatesArgs(start=FIRST_DAY, end=last_day())

    assert (args.days[0], args.days[-1]) == (date(1992, 7, 1), last_day())


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"start": "2025-04-01"},
        {"end": "2025-04-01"},
        {"date": "2025-04-01", "start": "2025-04-01", "end": "2025-04-02"},
        {"date": "2025-04-01", "end": "2025-04-02"},
        {"start": "2025-04-02", "end": "2025-04-01"},
        {"date": "1992-06-30"},
        {"date": (last_day() + timedelta(days=2)).isoformat()},
        {"date": "2025-02-30"},
        {"date": "01.04.2025"},
        {"date": "2025-04-01T00:00:00"},
        {"date": "1743465600"},
        {"date": 1743465600},
        {"date": "\u0662\u0660\u0662\u0665-04-01"},
        {"date": True},
        {"date": "2025-04-01", "by": "week"},
        {"date": "2025-04-01", "tabel": "x"},
        {"date": "2025-04-01", "table": ""},
        {"date": "2025-04-01", "table": "a.b.c"},
        {"date": "2025-04-01", "table": "dl_jobs"},
        {"date": "2025-04-01", "table": "x" * 64},
        {"date": "2025-04-01", "table": "a\0"},
        {"date": "2025-04-01", "table": 5},
    ],
)
def test_what_cannot_be_loaded_is_refused_at_the_trigger(args: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        CbrRatesArgs.model_validate(args)


@pytest.mark.parametrize(
    ("args", "valid"),
    [
        ({"date": "2025-04-01"}, True),
        ({"start": "2025-04-01", "end": "2025-04-02", "by": "currency"}, True),
        ({"start": "2025-04-01"}, False),
        ({"date": "2025-04-01", "start": "2025-04-01", "end": "2025-04-02"}, False),
        ({"date": None, "start": "2025-04-01"}, False),
        ({"date": "2025-04-01", "tabel": "x"}, False),
        ({}, False),
    ],
)
def test_the_published_schema_tells_a_day_from_a_range(args: dict[str, object], *, valid: bool) -> None:
    assert jsonschema.Draft202012Validator(CbrRatesArgs.model_json_schema()).is_valid(args) is valid
