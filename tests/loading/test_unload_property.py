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


NUMBERS = st.sampled_from(["NaN", "Infinity", "-Infinity", "1e400", "-1e-400", "0.10", "-0"])
DAYS = st.dates().map(str)
MOMENTS = st.datetimes().map(str)  # of columns without zone
KINDS: dict[str, st.SearchStrategy[str]] = {
    "smallint": st.integers(-(2**15), 2**15 - 1).map(str),
    "integer": st.integers(-(2**31), 2**31 - 1).map(str),
    "bigint": st.integers(-(2**63), 2**63 - 1).map(str),
    "real": st.floats(width=32).map(repr),
    "float8": st.floats().map(repr),
    "boolean": st.booleans().map(str),
    "numeric": NUMBERS | st.decimals(allow_nan=False, allow_infinity=False, places=5).map(str),
    "numeric(10,2)": st.decimals(-(10**7), 10**7, places=2).map(str),
    "numeric(60,3)": st.decimals(-(10**50), 10**50, places=3).map(lambda value: f"{value:f}"),
    "text": st.one_of(HOSTILE, TEXT),
    "varchar(9)": TEXT.map(lambda text: text[:9]),
    "char(3)": st.sampled_from(["", "a", "abc"]),
    "bytea": st.binary(max_size=8).map(lambda value: f"\\x{value.hex()}"),
    "uuid": st.uuids().map(str),
    "date": DAYS | st.sampled_from(["4713-01-01 BC", "0044-03-15 BC", "10000-01-01", "5874897-12-31"]),
    "timestamp": MOMENTS | st.sampled_from(["4713-01-01 BC", "10000-01-01 00:00:00.5", "294246-12-31 23:59:59.999999"]),
    "timestamptz": MOMENTS.map("{}+03".format) | st.sampled_from(["0001-01-01 01:00+00 BC", "12020-02-29 00:00+00"]),
    "time": st.times().map(str),
    "timetz": st.times().map("{}+03:30".format),
    "interval": st.sampled_from(["1 mon 2 days", "-00:00:01.5", "0", "100 years"]),
    "json": st.sampled_from(['{"a": 1, "a":  2}', "null", '"\\u0001"', "[1.50]"]),
    "jsonb": st.sampled_from(['{"a": [1, null]}', "null", '"\\""', "1e500"]),
    "int[]": st.sampled_from(["{}", "{1,NULL}", "{{1,2},{3,4}}", "[0:1]={1,2}"]),
    "text[]": st.sampled_from(["{}", "{NULL}", '{"NULL","","a,b"}']),
    "inet": st.sampled_from(["::1", "10.0.0.0/8"]),
    "int4range": st.sampled_from(["empty", "[1,)"]),
}


@st.composite
def typed(draw: st.DrawFn) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Draw types of columns, and rows of texts."""
    kinds = draw(st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6, unique=True))
    return kinds, draw(st.lists(st.tuples(*(st.none() | KINDS[kind] for kind in kinds)), max_size=9))


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


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=typed(),
    compression=st.sampled_from([None, "none", "snappy", "gzip"]),
    limits=st.sampled_from([{}, {"part_rows": 3}, {"part_bytes": 40}]),
)
async def test_any_table_comes_back_from_parquet_as_it_was(
    *,
    working: Scene,
    table: tuple[list[str], list[tuple[str | None, ...]]],
    compression: str | None,
    limits: dict[str, int],
) -> None:
    kinds, rows = table
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(kinds))
    texts = ", ".join(f"${number}::text::{kind}" for number, kind in enumerate(kinds, start=2))
    await working.pg.execute(
        f"drop table if exists given, back; create table given (place int primary key, {columns});"
        "create table back (like given)"
    )
    await working.pg.executemany(
        f"insert into given values ($1, {texts})", [(place, *row) for place, row in enumerate(rows)]
    )
    shutil.rmtree(out(working), ignore_errors=True)

    unload = {"table": "given", "target": out(working), "format": "parquet", "compression": compression}
    unloaded = await ended(working, "unload.table", unload | limits)
    load = {"source": f"{out(working)}/part-*", "table": "back", "mode": "append", "min_rows": 0}
    loaded = await ended(working, "load.file", load)

    assert unloaded["rows"] == loaded["rows"] == manifest(working)["rows"] == len(rows)
    given_rows, back = [
        await working.rows(f"select t::text from {name} t order by place") for name in ("given", "back")
    ]
    assert back == given_rows
