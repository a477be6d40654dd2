"""A hostile set of files: none kills or hangs the worker, each loads right or says where and what."""

from __future__ import annotations

import pytest

from dataloader.domain.jobs import NewJob
from tests.loading.hostile import ANY, Case, cases
from tests.loading.scene import Scene, message, result
from tests.workers.harness import enqueue, finished

CASES = list(cases())
_CUT = {"parallel", "mode", "chunk_bytes"}
SMALL = [case for case in CASES if len(case.body) < 1_000 and not _CUT & case.args.keys()]
LEAST = 150
PORTION = 30


def test_the_set_is_large() -> None:
    assert len(CASES) >= LEAST
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("start", range(0, len(CASES), PORTION))
async def test_every_file_loads_right_or_says_where_and_what(working: Scene, start: int) -> None:
    await check_all(working, CASES[start : start + PORTION], {})


@pytest.mark.parametrize("start", range(0, len(SMALL), PORTION))
async def test_every_small_file_loads_as_well_in_pieces_at_the_same_time(working: Scene, start: int) -> None:
    await check_all(working, SMALL[start : start + PORTION], {"parallel": 3, "chunk_bytes": 8})


async def check_all(working: Scene, chosen: list[Case], more: dict[str, object]) -> None:
    """Load files one after the other."""
    wrong = {}
    for case in chosen:
        await working.pg.execute("drop table if exists t, t_rejects")
        try:
            await check(working, case, more)
        except AssertionError as error:
            wrong[case.name] = str(error)[:500]

    assert wrong == {}


async def check(working: Scene, case: Case, more: dict[str, object]) -> None:
    """Load a file, and look at what came of it."""
    args = {name: value for name, value in case.args.items() if not name.startswith("_")}
    source = working.write("f", case.body)
    job = NewJob("load.file", "load.file", {"source": source, "table": "t"} | args | more, max_attempts=1)
    (ended,) = await finished(working.pg, await enqueue(working.pg, working.settings, job), within_s=60)
    if case.rows is None:
        assert case.reason in message(ended), message(ended)
        assert "Traceback" not in str(ended["error"]).replace('"traceback"', "")
        assert more or await working.pg.fetchval("select to_regclass('t')") is None
        return
    assert result(ended)["rows"] == len(case.rows)
    types = await working.types()
    if case.types is not None:
        assert tuple(types.values()) == case.types
    if "_columns" in case.args:
        assert tuple(types) == case.args["_columns"]
    found = await working.rows(f"select {', '.join(f'{_quoted(name)}::text' for name in types)} from t")
    if more:
        found, expected = sorted(found, key=str), sorted(case.rows, key=str)
    else:
        expected = list(case.rows)
    assert [_seen(*pair) for pair in zip(found, expected, strict=True)] == expected


def _seen(found: tuple[str | None, ...], expected: tuple[str | None, ...]) -> tuple[str | None, ...]:
    pairs = zip(found, expected, strict=True)
    return tuple(wanted if wanted == ANY else value for value, wanted in pairs)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
