"""Progress: what pipelines report, the rate of this run, and when it will be done."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.domain.json_values import dump
from dataloader.domain.progress import Progress, ProgressMeter


def meter(done: float | None = None, total: float | None = None) -> ProgressMeter:
    return ProgressMeter(started_s=100.0, current=Progress(done=done, total=total))


def test_a_report_changes_what_it_names_and_keeps_the_rest() -> None:
    progress = Progress().merged({"done": 1, "total": 10, "unit": "days", "message": "first"})

    assert progress.merged({"done": 2}) == Progress(2, 10, "days", "first")
    assert progress.merged({}) == progress
    assert progress.merged({"done": 0, "message": ""}) == Progress(0, 10, "days", "")


@pytest.mark.parametrize("value", [None, "3", True, [1], {}, float("inf"), float("nan"), 1e301, 10**400, -(10**400)])
def test_what_is_no_usable_number_is_dropped(value: object) -> None:
    assert Progress(done=1).merged({"done": value, "total": value}) == Progress(done=1)


@pytest.mark.parametrize("value", [None, 3, b"x", ["x"]])
def test_what_is_no_text_is_dropped(value: object) -> None:
    assert Progress(unit="rows").merged({"unit": value, "message": value}) == Progress(unit="rows")


@pytest.mark.parametrize("value", [None, [], [1], 3, "x", True, 0.5])
def test_a_row_whose_progress_is_no_object_has_none(value: object) -> None:
    assert Progress.from_json(value) == Progress()


def test_unknown_fields_are_dropped_and_long_texts_cut() -> None:
    progress = Progress().merged({"rows": 3, "message": "x" * 1_000})

    assert progress == Progress(message="x" * 500)


def test_the_form_in_the_row_is_read_back() -> None:
    assert Progress.from_json({"done": 1, "total": 2, "unit": "u", "message": "m", "rate": 9, "eta_s": 9}) == Progress(
        1, 2, "u", "m"
    )
    assert Progress.from_json(None) == Progress()


def test_the_rate_is_this_runs_and_the_estimate_follows_from_it() -> None:
    measured = meter()
    measured.update({"done": 20, "total": 100})

    assert measured.as_json(110.0) == {
        "done": 20, "total": 100, "unit": None, "message": None, "rate": 2.0, "eta_s": 40.0
    }  # fmt: skip


def test_what_earlier_attempts_did_is_no_speed_of_this_one() -> None:
    measured = meter(done=50, total=100)
    assert measured.as_json(105.0)["rate"] == 0.0
    assert measured.as_json(105.0)["eta_s"] is None

    measured.update({"done": 60})

    assert measured.as_json(110.0)["rate"] == 1.0
    assert measured.as_json(110.0)["eta_s"] == 40.0


def test_a_load_that_starts_over_counts_from_zero() -> None:
    measured = meter(done=50)
    measured.update({"done": 10})

    assert measured.as_json(110.0)["rate"] == 1.0


def test_a_report_without_a_number_does_not_break_the_rate() -> None:
    measured = meter(done=50)
    measured.update({"message": "still at it"})

    assert measured.as_json(110.0)["rate"] == 0.0


def test_without_a_total_there_is_no_estimate_and_without_anything_done_no_rate() -> None:
    measured = meter()
    assert measured.as_json(110.0)["rate"] is None
    measured.update({"done": 10})
    assert measured.as_json(110.0)["eta_s"] is None


def test_before_any_time_has_passed_there_is_no_rate() -> None:
    measured = meter()
    measured.update({"done": 10, "total": 20})

    assert measured.as_json(100.0)["rate"] is None
    assert measured.as_json(99.0)["eta_s"] is None


def test_more_than_the_total_is_no_negative_estimate() -> None:
    measured = meter()
    measured.update({"done": 30, "total": 20})

    assert measured.as_json(110.0)["eta_s"] == 0.0


_ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())


@given(st.lists(st.dictionaries(st.sampled_from(["done", "total", "unit", "message", "x"]), _ANYTHING), max_size=5))
def test_whatever_is_reported_the_row_can_be_written(reports: list[dict[str, Any]]) -> None:
    measured = meter()
    for now_s, report in enumerate(reports, start=101):
        measured.update(report)
        assert len(json.loads(dump(measured.as_json(float(now_s))))) == 6
