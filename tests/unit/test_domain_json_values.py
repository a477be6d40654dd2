"""Whatever a pipeline returns or raises becomes a JSON value that PostgreSQL stores."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.domain.json_values import (
    DEPTH_LIMIT,
    TEXT_LIMIT,
    Unreadable,
    clean_text,
    clean_value,
    dump,
    dump_exact,
    dump_storable,
    parse,
)


class Hostile:
    """A value that cannot even be shown."""

    def __str__(self) -> str:
        raise RuntimeError("no")


class Torn(UserDict[str, int]):
    """A mapping that breaks while it is read."""

    def __iter__(self) -> Iterator[str]:
        raise OSError("gone")


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Text(str):
    """A text of a type of its own."""

    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        (None, None),
        (True, True),
        (0, 0),
        (2**63, 2**63),
        (10**300, hex(10**300)[:99] + "…"),
        (1.5, 1.5),
        (float("nan"), None),
        (float("inf"), None),
        (float("-inf"), None),
        ("plain", "plain"),
        ("nul\x00", "nul\ufffd"),
        ("\ud800", "?"),
        ("é\U0001f600", "é\U0001f600"),
        (Text("own"), "own"),
        (Decimal("1.10"), "1.10"),
        (Decimal("NaN"), "NaN"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2025, 4, 1), "2025-04-01"),
        (datetime(2025, 4, 1, tzinfo=UTC), "2025-04-01 00:00:00+00:00"),
        (time(1, 2), "01:02:00"),
        (timedelta(seconds=1), "0:00:01"),
        (PurePosixPath("/a"), "/a"),
        (b"\xff", "b'\\xff'"),
        (Colour.RED, "Colour.RED"),
        (Point(1), "Point(x=1)"),
        ((1, 2), [1, 2]),
        ({1}, [1]),
        (frozenset({1}), [1]),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "int key", None: "none key"}, {"1": "int key", "None": "none key"}),
        ({"nul\x00": 1}, {"nul\ufffd": 1}),
        (Hostile(), "<Hostile: RuntimeError in __str__>"),
        ([Hostile()], ["<Hostile: RuntimeError in __str__>"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_becomes_the_nearest_json_value(value: object, cleaned: object) -> None:
    assert clean_value(value) == cleaned
    assert json.loads(dump(value)) == cleaned


def test_a_key_that_cannot_be_shown_is_replaced_like_a_value() -> None:
    assert clean_value({Hostile(): 1}) == {"<Hostile: RuntimeError in __str__>": 1}


def test_a_container_that_cannot_be_read_is_named_and_its_neighbours_stay() -> None:
    assert clean_value([1, Torn(a=1), 2]) == [1, "<Torn: OSError in iteration>", 2]


def test_what_is_nested_too_deep_is_named_by_its_type() -> None:
    deep: object = "bottom"
    for _ in range(10_000):
        deep = [deep]
    shallow: Any = clean_value(deep)
    for _ in range(DEPTH_LIMIT):
        (shallow,) = shallow

    assert shallow == "<list>"


def test_a_value_that_contains_itself_ends() -> None:
    value: list[object] = []
    value.append(value)

    assert "<list>" in dump(value)


def test_a_value_that_is_too_large_is_replaced_by_a_note_of_its_size() -> None:
    assert json.loads(dump(["x" * 100] * 10, limit_bytes=500)) == {
        "truncated": True,
        "bytes": 1_031,
        "limit_bytes": 500,
    }


def test_the_limit_is_inclusive() -> None:
    assert json.loads(dump("x" * 498, limit_bytes=500)) == "x" * 498


def test_a_long_text_is_cut_with_a_mark() -> None:
    assert clean_text("x" * TEXT_LIMIT) == "x" * TEXT_LIMIT
    assert clean_text("x" * (TEXT_LIMIT + 1)) == "x" * (TEXT_LIMIT - 1) + "…"
    assert clean_text("abcdef", 3) == "ab…"


_HARD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=5)
    | st.datetimes()
    | st.decimals()
    | st.complex_numbers(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(_HARD)
def test_anything_at_all_can_be_stored_and_cleaning_is_done_once(value: object) -> None:
    text = dump(value)

    assert "\\u0000" not in text.replace("\\\\", "")
    assert text.isascii()
    parsed = json.loads(text, parse_constant=pytest.fail)
    assert clean_value(parsed) == parsed


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, b"x"])
def test_what_must_arrive_unchanged_is_refused_when_it_cannot(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        dump_exact({"value": value})


def test_what_must_arrive_unchanged_does() -> None:
    value = {"a": [1, 2.5, None, True, "é\u0000\ud800"]}

    assert json.loads(dump_exact(value)) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x" * 1_048_577, "limit"),
        ({"a": ["\x00"]}, "NUL"),
        ({"\x00": 1}, "NUL"),
        ("\ud800", "surrogates"),
        (float("nan"), "JSON|nan"),
    ],
)
def test_what_postgresql_cannot_keep_as_it_is_is_refused(value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        dump_storable(value)


def test_an_escaped_backslash_is_not_nul() -> None:
    assert json.loads(dump_storable({"a": "\\u0000"})) == {"a": "\\u0000"}


def test_an_integer_that_python_does_not_read_stays_text_and_its_neighbours_numbers() -> None:
    long = "1" * 4_301

    assert parse(f'{{"long": {long}, "short": 12, "real": 1.5}}') == {"long": long, "short": 12, "real": 1.5}


def test_a_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        parse("{")


@pytest.mark.parametrize(("text", "deep"), [("[[[1]]]", False), ("[[[[1]]]]", True), ('{"a": ["[[[["]}', False)])
def test_a_value_of_more_levels_than_the_limit_is_unreadable(text: str, deep: bool) -> None:
    assert isinstance(parse(text, depth_limit=3), Unreadable) is deep


def test_a_value_deeper_than_python_reads_is_unreadable() -> None:
    assert parse("[" * 100_000 + "]" * 100_000) == {"unreadable": "nested too deep"}


@pytest.mark.parametrize(("depth", "kept"), [(500, True), (501, False)])
def test_what_is_kept_can_be_read_back(depth: int, kept: bool) -> None:
    value: object = "bottom"
    for _ in range(depth):
        value = [value]

    if kept:
        assert parse(dump_storable(value)) == value
    else:
        with pytest.raises(ValueError, match="deeper than 500"):
            dump_storable(value)
