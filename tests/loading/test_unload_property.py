"""Any table, unloaded into files and loaded back, is the same table."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.domain.jobs import NewJob
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.loading.scene import Scene, result
from tests.loading.unloaded import manifest, out
from tests.workers.harness import enqueue, finished, running_service

HOSTILE = st.sampled_from(["", '"', '""', ",", "\t", "\n", "\r\n", "\r", r"\N", r"\.", "\\", " ", "NULL", "\ufeff"])
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WORDS = st.one_of(st.none(), TEXT, st.lists(st.one_of(HOSTILE, TEXT), max_size=4).map("".join))
ROWS = st.lists(st.tuples(WORDS, st.one_of(st.none(), st.floats(allow_nan=False)), WORDS), max_size=20)
TABLE = "create table {} (place int primary key, a text, b float8, c text)"


@pytest.fixture
async def working(unloading: Scene) -> AsyncIterator[Scene]:
    """A scene whose worker runs all the time."""
    load_all()
    async with running_service(unloading.settings, REGISTRY):
        yield unloading


async def ended(scene: Scene, task: str, args: dict[str, Any]) -> dict[str, Any]:
    """Run a job; return what it says it did."""
    job = NewJob(task, task, args, max_attempts=1)
    (row,) = await finished(scene.pg, await enqueue(scene.pg, scene.settings, job))
    return result(row)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=ROWS,
    dialect=st.fixed_dictionaries(
        {"delimiter": st.sampled_from([",", ";", "\t"]), "null": st.sampled_from(["", r"\N"])}
    ),
    compression=st.sampled_from(["none", "gzip"]),
    limits=st.sampled_from([{}, {"part_rows": 1}, {"part_rows": 3}, {"part_bytes": 40}]),
)
async def test_any_table_comes_back_as_it_was(
    *,
    working: Scene,
    rows: list[tuple[str | None, float | None, str | None]],
    dialect: dict[str, str],
    compression: str,
    limits: dict[str, int],
) -> None:
    await working.pg.execute("drop table if exists given, back")
    await working.pg.execute(f"{TABLE.format('given')}; {TABLE.format('back')}")
    await working.pg.executemany(
        "insert into given values ($1, $2, $3, $4)", [(place, *row) for place, row in enumerate(rows)]
    )
    shutil.rmtree(out(working), ignore_errors=True)
    unload = {"table": "given", "target": out(working), "compression": compression}

    unloaded = await ended(working, "unload.table", unload | dialect | limits)
    load = {"source": f"{out(working)}/part-*", "table": "back", "mode": "append", "min_rows": 0}
    loaded = await ended(working, "load.file", load | dialect)

    assert unloaded["rows"] == loaded["rows"] == manifest(working)["rows"] == len(rows)
    given_rows, back = [await working.rows(f"select * from {name} order by place") for name in ("given", "back")]
    assert back == given_rows
