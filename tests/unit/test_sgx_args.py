"""What `sgx.futures` accepts as arguments."""

from __future__ import annotations

from datetime import date, timedelta

import jsonschema
import pytest
from pydantic import ValidationError

from dataloader.workers.pipelines.sgx.args import FIRST_DAY, SgxFuturesArgs, last_day


def test_one_day_is_a_range_of_one() -> None:
    args = SgxFuturesArgs.model_validate({"date": "2026-07-16"})

    assert args.days == args.weekdays == (date(2026, 7, 16),)
    assert args.table == "sgx_futures"


def test_a_range_includes_both_ends_and_passes_over_weekends() -> None:
    args = SgxFuturesArgs.model_validate({"start": "2026-07-10", "end": "2026-07-14"})

    assert args.weekdays == (date(2026, 7, 10), date(2026, 7, 13), date(2026, 7, 14))


def test_a_weekend_has_no_day_to_ask_for() -> None:
    assert SgxFuturesArgs.model_validate({"start": "2026-07-11", "end": "2026-07-12"}).weekdays == ()


def test_the_first_day_of_the_format_and_tomorrow_are_accepted() -> None:
    args = SgxFuturesArgs(start=FIRST_DAY, end=last_day())

    assert (args.days[0], args.days[-1]) == (date(2018, 1, 19), last_day())


def test_a_day_before_the_format_is_refused_with_the_first_one() -> None:
    with pytest.raises(ValidationError, match="must lie between 2018-01-19"):
        SgxFuturesArgs.model_validate({"date": "2018-01-18"})


@pytest.mark.parametrize(
    "args",
    [
        {},
        {"start": "2026-07-16"},
        {"end": "2026-07-16"},
        {"date": "2026-07-16", "end": "2026-07-17"},
        {"start": "2026-07-17", "end": "2026-07-16"},
        {"date": (last_day() + timedelta(days=2)).isoformat()},
        {"start": "2017-12-31", "end": "2026-07-16"},
        {"date": "16 Jul 2026"},
        {"date": "20260716"},
        {"date": "2026-07-16", "tabel": "x"},
        {"date": "2026-07-16", "table": "a.b.c"},
        {"date": "2026-07-16", "table": "dl_jobs"},
        {"date": "2026-07-16", "table": ""},
    ],
)
def test_what_cannot_be_loaded_is_refused_at_the_trigger(args: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SgxFuturesArgs.model_validate(args)


@pytest.mark.parametrize(
    ("args", "valid"),
    [
        ({"date": "2026-07-16"}, True),
        ({"start": "2026-07-15", "end": "2026-07-16", "table": "raw.futures"}, True),
        ({"start": "2026-07-15"}, False),
        ({"date": "2026-07-16", "by": "day"}, False),
        ({}, False),
    ],
)
def test_the_published_schema_tells_a_day_from_a_range(args: dict[str, object], *, valid: bool) -> None:
    assert jsonschema.Draft202012Validator(SgxFuturesArgs.model_json_schema()).is_valid(args) is valid
