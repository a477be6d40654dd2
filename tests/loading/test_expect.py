"""What is expected of a table, asked before a load is accepted."""

from __future__ import annotations

import pytest

from tests.loading.scene import Scene, message, result

CONTENT = "day,n,text\n2026-01-01,1,a\n2026-01-02,2,\n2026-01-03,2,\n2026-01-04,400,b\n"
GOOD: dict[str, object] = {
    "max_null_fraction": {"text": 0.5, "n": 0},
    "unique": ["day", ["n", "text"]],
    "accepted_range": {"n": [1, 400], "day": ["2026-01-01", None]},
    "freshness": {"day": 10**10},
}


async def test_a_table_that_is_as_expected_is_accepted(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", CONTENT), expect=GOOD)

    assert result(job)["rows"] == 4
    assert "warnings" not in result(job)


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        ({"max_null_fraction": {"text": 0.4}}, "text is missing in 50.00% of the rows, at most 40.00% are expected"),
        ({"unique": ["n"]}, "n is expected to be unique, (2) is there more than once"),
        ({"accepted_range": {"n": [2, 300]}}, "n is outside of 2 to 300 in 2 rows, 1 for example"),
        ({"accepted_range": {"day": [None, "2026-01-02"]}}, "day is outside of any to 2026-01-02 in 2 rows"),
        ({"freshness": {"day": 60}}, "s old, at most 60 s are expected"),
        ({"unique": ["nothing"]}, "expect names nothing, which is not among the columns: day, n, text"),
        ({"freshness": {"text": 60}}, "expect cannot be asked of"),
        ({"accepted_range": {"n": ["x", None]}}, "expect cannot be asked of"),
    ],
)
@pytest.mark.parametrize("mode", ["append", "replace"])
async def test_a_table_that_is_not_as_expected_fails_its_load(
    scene: Scene, expect: dict[str, object], reason: str, mode: str
) -> None:
    await scene.pg.execute(
        "create table t (day date, n int, text text); insert into t values ('2026-01-01', 300, 'old')"
    )
    if mode == "append":
        await scene.pg.execute("truncate t")

    job = await scene.load(source=scene.write("f.csv", CONTENT), expect=expect, mode=mode)

    assert reason in message(job)
    assert await scene.rows("select n from t") == ([(300,)] if mode == "replace" else [])


async def test_a_column_that_is_not_there_is_noticed_before_anything_is_committed(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", CONTENT), expect={"unique": ["nothing"]}, chunk_bytes=1)

    assert "expect names nothing, which is not among the columns: day, n, text" in message(job)
    assert await scene.pg.fetchval("select to_regclass('t')") is None


async def test_a_column_that_a_later_file_adds_may_be_spoken_of(scene: Scene) -> None:
    files = [scene.write("a.csv", "n\n1\n"), scene.write("b.csv", "n,text\n2,b\n")]

    job = await scene.load(source=files, on_schema_change="evolve", expect={"unique": ["text"]}, chunk_bytes=1)

    assert result(job)["rows"] == 2


async def test_what_only_warns_is_in_the_result(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", CONTENT), expect={"unique": ["n"], "on_failure": "warn"})

    assert result(job)["warnings"] == ["n is expected to be unique, (2) is there more than once"]
    assert result(job)["rows"] == 4
