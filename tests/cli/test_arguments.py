"""What people type becomes what the API takes, or one sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dataloader.cli.arguments import due_at, instant, job_args, labels
from dataloader.exceptions import InvalidError


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("n=3", 3),
        ("flag=true", True),
        ("day=2025-04-01", "2025-04-01"),
        ('id="7"', "7"),
        ("list=[1, 2]", [1, 2]),
        ("text=a=b", "a=b"),
        ("zip=01234", "01234"),
        ("empty=", ""),
    ],
)
def test_a_value_that_is_json_is_taken_as_such_and_any_other_as_text(pair: str, value: object) -> None:
    (found,) = job_args([pair], None).values()
    assert found == value
    assert type(found) is type(value)


def test_pairs_win_over_the_object() -> None:
    assert job_args(["b=3"], '{"a": 1, "b": 2}') == {"a": 1, "b": 3}


@pytest.mark.parametrize("pairs", [["chunks"], ["=3"]])
def test_a_pair_without_name_or_sign_is_refused(pairs: list[str]) -> None:
    with pytest.raises(InvalidError, match="name=value"):
        job_args(pairs, None)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_arguments_that_are_no_object_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="--args"):
        job_args([], text)


def test_labels_stay_texts() -> None:
    assert labels(["n=3", "team=a"]) == {"n": "3", "team": "a"}


def test_a_delay_counts_from_now() -> None:
    now = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert due_at("+15m", now=now) == now + timedelta(minutes=15)
    assert due_at("+2d", now=now) == now + timedelta(days=2)
    assert due_at(None) is None


def test_a_time_keeps_its_offset_and_is_local_without_one() -> None:
    assert instant("2026-01-31T08:00+03:00", option="--at") == datetime(2026, 1, 31, 5, tzinfo=UTC)
    assert instant("2026-01-31T08:00", option="--at").tzinfo is not None


@pytest.mark.parametrize("text", ["tomorrow", "+15", "+5w", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="--at"):
        due_at(text)
