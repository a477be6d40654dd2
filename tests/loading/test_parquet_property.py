"""Any table of generated values, written as Parquet and loaded back, is equal: every type, mode and cut."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.domain.jobs import NewJob
from tests.loading.parquet_files import parquet
from tests.loading.scene import Scene, result
from tests.workers.harness import enqueue, finished

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["\\N", "\\.", "", "\t", "\r\n", "\\", "NULL", '"']
)
MOMENTS = st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2261, 12, 31))  # noqa: DTZ001 - of columns without zone
LONGS = st.integers(-(2**63), 2**63 - 1)
CENTS = st.decimals(-(10**9), 10**9, places=2)


def as_it_is(value: Any) -> Any:
    """Return a value as it comes back."""
    return value


@dataclass(frozen=True)
class Kind:
    """A type of columns.

    Attributes:
        values: What may be in it.
        comes: Makes of a value what comes back.
    """

    name: str
    arrow: pa.DataType
    values: st.SearchStrategy[Any]
    comes: Callable[[Any], Any] = as_it_is


KINDS = (
    Kind("i16", pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    Kind("i32", pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    Kind("i64", pa.int64(), LONGS),
    Kind("u32", pa.uint32(), st.integers(0, 2**32 - 1)),
    Kind("u64", pa.uint64(), st.integers(0, 2**64 - 1), Decimal),
    Kind("f32", pa.float32(), st.floats(width=32)),
    Kind("f64", pa.float64(), st.floats()),
    Kind("flag", pa.bool_(), st.booleans()),
    Kind("text", pa.string(), TEXTS),
    Kind("long_text", pa.large_string(), TEXTS),
    Kind("bytes", pa.binary(), st.binary(max_size=8)),
    Kind("fixed", pa.binary(3), st.binary(min_size=3, max_size=3)),
    Kind("cents", pa.decimal128(20, 2), CENTS),
    Kind("day", pa.date32(), st.dates()),
    Kind("moment", pa.timestamp("us"), MOMENTS),
    Kind("fine", pa.timestamp("ns"), MOMENTS),
    Kind("zoned", pa.timestamp("us", "Asia/Tokyo"), MOMENTS.map(lambda at: at.replace(tzinfo=dt.UTC))),
    Kind("clock", pa.time64("us"), st.times()),
    Kind("span", pa.duration("us"), st.timedeltas(dt.timedelta(days=-9), dt.timedelta(days=9))),
    Kind("word", pa.dictionary(pa.int8(), pa.string()), TEXTS),
    Kind("id", pa.uuid(), st.uuids().map(lambda value: value.bytes), lambda value: UUID(bytes=value)),
    Kind("list", pa.list_(pa.int64()), st.lists(st.none() | LONGS, max_size=3)),
    Kind(
        "struct",
        pa.struct({"n": pa.int32(), "t": pa.string()}),
        st.fixed_dictionaries({"n": st.none() | st.integers(0, 9), "t": st.none() | TEXTS}),
    ),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Kind], list[list[Any]]]:
    """Draw types of columns, each once, and their values; with decimals and spans, or only what has a binary form."""
    textual = draw(st.booleans())
    able = [kind for kind in KINDS if textual or kind.name not in {"u64", "cents", "span"}]
    kinds = draw(st.lists(st.sampled_from(able), min_size=1, max_size=6, unique_by=lambda kind: kind.name))
    count = draw(st.integers(1, 9))
    gaps = draw(st.booleans())
    return kinds, [
        draw(st.lists(st.none() | kind.values if gaps else kind.values, min_size=count, max_size=count))
        for kind in kinds
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    table=tables(),
    group=st.integers(1, 4),
    mode=st.sampled_from(["append", "merge", "replace"]),
    chunk_bytes=st.one_of(st.none(), st.integers(1, 60)),
    on_error=st.sampled_from(["fail", "reject"]),
    parallel=st.sampled_from([1, 3]),
)
async def test_any_table_of_parquet_comes_back_as_it_was(
    *,
    working: Scene,
    table: tuple[list[Kind], list[list[Any]]],
    group: int,
    mode: str,
    chunk_bytes: int | None,
    on_error: str,
    parallel: int,
) -> None:
    kinds, values = table
    await working.pg.execute("drop table if exists t")
    count = len(values[0])
    columns = {kind.name: pa.array(column, kind.arrow) for kind, column in zip(kinds, values, strict=True)}
    content = parquet(pa.table({"place": pa.array(range(count), pa.int32())} | columns), row_group_size=group)
    args: dict[str, Any] = {
        "source": working.write("f", content),
        "table": "t",
        "mode": mode,
        "primary_key": ["place"],
        "chunk_bytes": chunk_bytes,
        "on_error": on_error,
        "parallel": 1 if mode == "merge" else parallel,
    }
    job = NewJob("load.file", "load.file", args, max_attempts=1)

    (ended,) = await finished(working.pg, await enqueue(working.pg, working.settings, job))

    assert result(ended)["rejected"] == 0
    found = await working.rows("select * from t order by place")
    expected = [
        (place, *(_came(*pair) for pair in zip(kinds, row, strict=True)))
        for place, row in enumerate(zip(*values, strict=True))
    ]
    assert [tuple(map(_comparable, row)) for row in found] == [tuple(map(_comparable, row)) for row in expected]


def _came(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    return json.dumps(value) if pa.types.is_nested(kind.arrow) else kind.comes(value)


def _comparable(value: Any) -> Any:
    """Return what equals itself: numbers that are none, and JSON however it is written."""
    if isinstance(value, float):
        return repr(value)
    try:
        return json.loads(value) if isinstance(value, str) and value[:1] in {"[", "{"} else value
    except ValueError:
        return value
