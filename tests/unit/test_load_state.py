"""Where a load stands, whatever is committed in whichever order before it is broken off."""

from __future__ import annotations

import json
import random
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.files import FileVersion
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.state import LoadState, Segment

RECORDS = 60
FILES = [("f", FileVersion(RECORDS * 10, "v"))]


def segment(begin: int, end: int) -> Segment:
    """Return a segment of records of ten bytes, a line each."""
    return Segment(Place(begin * 10, begin + 1), Place(end * 10, end + 1))


def broken_off(state: LoadState) -> LoadState:
    """Return what the next run makes of the state's checkpoint."""
    return LoadState.of(FILES, json.loads(json.dumps(state.as_json())))


def wave_of(state: LoadState, parallel: int, size: int) -> list[Segment]:
    """Return what is loaded next: holes first, then segments behind all that is loaded."""
    if holes := state.holes():
        return holes
    begin = state.offset // 10
    edges = [min(begin + number * size, RECORDS) for number in range(parallel + 1)]
    return [segment(one, other) for one, other in pairwise(edges) if one < other]


@given(parallel=st.integers(1, 5), size=st.integers(1, 9), seed=st.integers(0, 2**32))
def test_every_record_is_loaded_once_whatever_is_committed_before_a_load_is_broken_off(
    parallel: int, size: int, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a seed repeats a run
    state, loaded = LoadState.of(FILES, None), [0] * RECORDS
    while state.offset < RECORDS * 10 or state.ahead:
        wave = wave_of(state, parallel, size)
        committed = chance.sample(wave, chance.randint(0, len(wave)))
        for one in committed:
            for record in range(one.begin.offset // 10, one.end.offset // 10):
                loaded[record] += 1
            state = state.after_segment(one, rows=one.size // 10, rejected=0)
        if len(committed) < len(wave):
            state = broken_off(state)

    assert loaded == [1] * RECORDS
    assert (state.place, state.rows) == (Place(RECORDS * 10, RECORDS + 1), RECORDS)


@pytest.mark.parametrize(
    ("names", "told"),
    [("abcx", "x is new;"), ("b", "a is gone (and 1 more);"), ("acxy", "x is new (and 1 more), b is gone;")],
)
def test_files_that_came_or_went_since_a_load_began_are_named(names: str, told: str) -> None:
    begun = LoadState.of([(name, FileVersion(10, "v")) for name in "abc"], None)

    with pytest.raises(PermanentError, match=re.escape(f"no longer those it began with: {told} trigger a new job")):
        LoadState.of([(name, FileVersion(10, "v")) for name in sorted(names)], json.loads(json.dumps(begun.as_json())))


def test_nothing_lies_between_segments_that_meet() -> None:
    state = LoadState.of(FILES, None)
    for one in (segment(2, 3), segment(1, 2)):
        state = state.after_segment(one, rows=1, rejected=0)

    assert state.holes() == [segment(0, 1)]
