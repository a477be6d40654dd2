"""Parquet: every type, every mode, any cut, and files that are damaged."""

from __future__ import annotations

import asyncio
import datetime as dt
import gzip
import random
import sys
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from tests.loading.hostile import archive
from tests.loading.parquet_files import numbers, parquet
from tests.loading.scene import Scene, message, result
from tests.loading.test_http import near  # noqa: F401 - a fixture
from tests.loading.web import Web, serving

ID = UUID("01a20c71-79d2-7d3b-bfa3-e301628db985")
UTC_NOON = dt.datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=dt.UTC)
NOON = UTC_NOON.replace(tzinfo=None)
VALUES: dict[str, tuple[pa.DataType, Any, str, Any]] = {
    "i8": (pa.int8(), -128, "smallint", -128),
    "i16": (pa.int16(), -32768, "smallint", -32768),
    "i32": (pa.int32(), -(2**31), "integer", -(2**31)),
    "i64": (pa.int64(), -(2**63), "bigint", -(2**63)),
    "u8": (pa.uint8(), 255, "smallint", 255),
    "u16": (pa.uint16(), 65_535, "integer", 65_535),
    "u32": (pa.uint32(), 2**32 - 1, "bigint", 2**32 - 1),
    "u64": (pa.uint64(), 2**64 - 1, "numeric(20,0)", Decimal(2**64 - 1)),
    "f16": (pa.float16(), 1.5, "real", 1.5),
    "f32": (pa.float32(), 0.5, "real", 0.5),
    "f64": (pa.float64(), 0.1, "double precision", 0.1),
    "infinite": (pa.float64(), float("-inf"), "double precision", float("-inf")),
    "small": (pa.decimal128(20, 10), Decimal("1E-10"), "numeric(20,10)", Decimal("1E-10")),
    "large": (pa.decimal256(60, 2), Decimal("9" * 50 + ".25"), "numeric(60,2)", Decimal("9" * 50 + ".25")),
    "flag": (pa.bool_(), True, "boolean", True),
    "signs": (pa.string(), 'a\tb\nc\rd\\e"f,\\N', "text", 'a\tb\nc\rd\\e"f,\\N'),
    "empty": (pa.large_string(), "", "text", ""),
    "null_word": (pa.string(), "\\N", "text", "\\N"),
    "end": (pa.string(), "\\.", "text", "\\."),
    "bytes": (pa.binary(), b"\0\xff\\", "bytea", b"\0\xff\\"),
    "fixed": (pa.binary(2), b"ab", "bytea", b"ab"),
    "day": (pa.date32(), dt.date(1999, 12, 31), "date", dt.date(1999, 12, 31)),
    "instant": (pa.timestamp("us"), NOON, "timestamp without time zone", NOON),
    "instant_ns": (pa.timestamp("ns"), NOON, "timestamp without time zone", NOON),
    "zoned": (pa.timestamp("us", "Europe/Berlin"), UTC_NOON, "timestamp with time zone", UTC_NOON),
    "clock": (pa.time64("us"), dt.time(23, 59, 59, 1), "time without time zone", dt.time(23, 59, 59, 1)),
    "span": (pa.duration("us"), dt.timedelta(days=2, microseconds=7), "interval", dt.timedelta(days=2, microseconds=7)),
    "list": (pa.list_(pa.decimal128(9, 2)), [Decimal("1.50"), None], "jsonb", "[1.50, null]"),
    "struct": (
        pa.struct({"a": pa.int64(), "b": pa.string()}),
        {"a": 1, "b": 'x"\n'},
        "jsonb",
        '{"a": 1, "b": "x\\"\\n"}',
    ),
    "map": (pa.map_(pa.string(), pa.float64()), [("k", float("nan"))], "jsonb", '{"k": "NaN"}'),
    "times": (pa.list_(pa.timestamp("ns", "UTC")), [UTC_NOON], "jsonb", '["2026-01-31T12:00:00.123456+00:00"]'),
    "text_view": (pa.string_view(), "a longer text\tthan a view holds", "text", "a longer text\tthan a view holds"),
    "bytes_view": (
        pa.binary_view(),
        b"\xff bytes, more than a view holds",
        "bytea",
        b"\xff bytes, more than a view holds",
    ),
    "day64": (pa.date64(), dt.date(1969, 12, 31), "date", dt.date(1969, 12, 31)),
    "clock32": (pa.time32("ms"), dt.time(1, 2, 3, 4_000), "time without time zone", dt.time(1, 2, 3, 4_000)),
    "clock_ns": (pa.time64("ns"), dt.time(1, 2, 3, 4), "time without time zone", dt.time(1, 2, 3, 4)),
    "instant_ms": (
        pa.timestamp("ms"),
        NOON.replace(microsecond=7_000),
        "timestamp without time zone",
        NOON.replace(microsecond=7_000),
    ),
    "decimal32": (pa.decimal32(5, 2), Decimal("-1.05"), "numeric(5,2)", Decimal("-1.05")),
    "decimal64": (pa.decimal64(12, 0), Decimal(10**11), "numeric(12,0)", Decimal(10**11)),
    "large_list": (pa.large_list(pa.int8()), [1, None], "jsonb", "[1, null]"),
    "pair": (pa.list_(pa.float64(), 2), [0.1, float("inf")], "jsonb", '[0.1, "Infinity"]'),
    "list_of_maps": (pa.list_(pa.map_(pa.int32(), pa.binary())), [[(1, b"\xff")]], "jsonb", '[{"1": "\\\\xff"}]'),
    "word_bytes": (pa.dictionary(pa.int16(), pa.binary()), b"\0", "bytea", b"\0"),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), "d", "text", "d"),
    "id": (pa.uuid(), ID.bytes, "uuid", ID),
    "nothing": (pa.null(), None, "text", None),
}


def every_type() -> pa.Table:
    """Return three rows with a column of each type: a value, a missing one, the value."""
    columns = {name: pa.array([value, None, value], kind) for name, (kind, value, _, _) in VALUES.items()}
    return pa.table({"k": pa.array([1, 2, 3], pa.int64())} | columns)


@pytest.mark.parametrize("mode", ["append", "merge", "replace"])
@pytest.mark.parametrize("chunk_bytes", [1, 500, None])
@pytest.mark.parametrize("on_error", ["fail", "reject"])
async def test_every_type_comes_back_as_it_was(scene: Scene, mode: str, chunk_bytes: int | None, on_error: str) -> None:
    path = scene.write("f", parquet(every_type(), row_group_size=2))

    job = await scene.load(source=path, mode=mode, primary_key=["k"], chunk_bytes=chunk_bytes, on_error=on_error)

    value = (1, *(expected for _, _, _, expected in VALUES.values()))
    assert result(job) == {"rows": 3, "rejected": 0, "files": 1, "bytes": (scene.folder / "f").stat().st_size}
    assert await scene.types() == {"k": "bigint"} | {name: kind for name, (_, _, kind, _) in VALUES.items()}
    assert await scene.rows("select * from t order by k") == [value, (2, *(None for _ in VALUES)), (3, *value[1:])]


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_every_type_comes_back_beside_no_other(scene: Scene, mode: str) -> None:
    """Where all types of a file have a binary form, rows are sent in it."""
    jobs: list[dict[str, object]] = []
    for name, (kind, value, _, _) in VALUES.items():
        for gaps in ((value, None, value), (value, value, value)):
            table = pa.table({"k": pa.array([1, 2, 3], pa.int64()), name: pa.array(gaps, kind)})
            path = scene.write(f"{name}{len(jobs)}", parquet(table, row_group_size=2))
            jobs.append({"source": path, "table": f"t{len(jobs)}", "mode": mode, "primary_key": ["k"]})

    ended = await scene.loads(*jobs)

    assert [result(job)["rows"] for job in ended] == [3] * len(jobs)
    for number, (name, (_, _, kind, expected)) in enumerate(VALUES.items()):
        assert await scene.types(f"t{2 * number}") == {"k": "bigint", name: kind}
        for table_name, middle in ((f"t{2 * number}", None), (f"t{2 * number + 1}", expected)):
            rows = await scene.rows(f"select * from {table_name} order by k")
            assert rows == [(1, expected), (2, middle), (3, expected)], name


async def test_a_row_of_the_binary_form_that_does_not_fit_is_named(scene: Scene) -> None:
    await scene.pg.execute("create table t (n bigint check (n not in (0, 7)), text text)")
    path = scene.write("f", numbers(10, groups=2))

    first = await scene.load(source=path)
    await scene.pg.execute("alter table t drop constraint t_n_check, add check (n <> 7)")
    eighth = await scene.load(source=path)
    ninth = await scene.load(source=path, chunk_bytes=1)

    assert f"{path}, line 1: new row" in message(first)
    assert f"{path}, line 8: new row" in message(eighth)
    assert f"{path}, line 8: new row" in message(ninth)


@pytest.mark.parametrize("chunk_bytes", [200, 4_000, None])
@pytest.mark.parametrize("mode", ["append", "replace"])
async def test_pieces_are_loaded_at_the_same_time(scene: Scene, mode: str, chunk_bytes: int | None) -> None:
    path = scene.write("f", numbers(3_000, groups=7))

    job = await scene.load(source=path, mode=mode, chunk_bytes=chunk_bytes, parallel=3)

    assert result(job)["rows"] == 3_000
    assert await scene.rows("select count(*), count(distinct n), sum(n) from t") == [(3_000, 3_000, 4_498_500)]
    ranges = await scene.rows("select (range->>'begin')::int, (range->>'end')::int, rows_in from dl_chunks order by 1")
    assert [rows for _, _, rows in ranges] == [end - begin for begin, end, _ in ranges]
    assert [begin for begin, _, _ in ranges] == [0, *(end for _, end, _ in ranges[:-1])]


async def test_what_is_loaded_ahead_is_not_loaded_again(scene: Scene) -> None:
    await scene.pg.execute("create table t (n bigint check (n not between 1400 and 1500), text text)")
    path = scene.write("f", numbers(4_000, groups=3))
    job = await scene.load(source=path, chunk_bytes=4_000, parallel=3)
    assert "line 14" in message(job)

    await scene.pg.execute("alter table t drop constraint t_n_check")
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert result(again)["rows"] == 4_000
    assert await scene.rows("select count(*), count(distinct n) from t") == [(4_000, 4_000)]


async def test_a_row_group_of_any_size_is_loaded_in_pieces(scene: Scene) -> None:
    path = scene.write("f", numbers(40_000, groups=1))

    job = await scene.load(source=path, chunk_bytes=50_000)

    chunks = await scene.pg.fetchval("select count(*) from dl_chunks where job_id = $1", job["job_id"])
    assert result(job)["rows"] == 40_000
    assert chunks > 10


async def test_a_file_that_changes_while_it_is_loaded_is_noticed(scene: Scene) -> None:
    await scene.pg.execute("create table t (n bigint check (n < 3000), text text)")
    path = scene.write("f", numbers(4_000, groups=4))
    job = await scene.load(source=path, chunk_bytes=4_000)
    assert "line 3001" in message(job)

    scene.write("f", numbers(4_001, groups=4))
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert "changed after its load had begun" in message(again)


async def test_without_the_library_the_error_says_what_to_install(scene: Scene) -> None:
    path = scene.write("f", numbers(1, groups=1))
    script = f"""
import asyncio, sys
from contextlib import AsyncExitStack
sys.modules["pyarrow"] = None
from dataloader.config import load_settings
from dataloader.connectors.files.access import open_files
from dataloader.workers.pipelines.load_file.columnar import open_columnar

async def main():
    files = open_files(load_settings(_env_file=None, dl_source_roots="/"))
    async with AsyncExitStack() as stack:
        (file,) = await files.find({path!r}, member=None, stack=stack)
        await open_columnar(await files.open(file, encoding=None), files, {{}}, stack=stack)

asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()

    assert "f is Parquet; what reads it is not installed: pip install pyarrow (the extra `parquet`)" in said.decode()


async def test_types_that_are_asked_for_are_taken(scene: Scene) -> None:
    table = pa.table({"A Name": [b"x", b"y"], "n": [1, 2], "day": ["2026-01-31", None]})
    path = scene.write("f", parquet(table))

    await scene.load(source=path, columns={"A Name": "text", "n": "numeric(5,1)", "day": "date"})

    assert await scene.types() == {"a_name": "text", "n": "numeric(5,1)", "day": "date"}
    assert (await scene.rows())[0] == ("x", Decimal("1.0"), dt.date(2026, 1, 31))


async def test_a_failed_attempt_is_taken_up_at_its_row(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int check (n <> 3500), text text)")
    job = await scene.load(source=scene.write("f", numbers(4_000, groups=4)), chunk_bytes=4_000)
    assert "line 3501" in message(job)
    committed = await scene.pg.fetchval("select count(*) from t")
    assert 3_000 < committed < 3_500

    await scene.pg.execute(
        "alter table t drop constraint t_n_check; create table old as select ctid as place, n from t"
    )
    await scene.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await scene.ended(job["job_id"])

    assert result(again)["rows"] == 4_000
    assert await scene.rows("select count(*), count(distinct n) from t") == [(4_000, 4_000)]
    assert await scene.pg.fetchval("select count(*) from t join old on place = t.ctid and t.n = old.n") == committed


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_rows_that_do_not_fit_are_put_aside_with_their_number(scene: Scene, mode: str) -> None:
    await scene.pg.execute("create table t (n int primary key check (n % 1000 <> 7), text text)")
    path = scene.write("f", numbers(3_000, groups=2))

    job = await scene.load(source=path, mode=mode, primary_key=["n"], on_error="reject", chunk_bytes=20_000)

    assert (result(job)["rows"], result(job)["rejected"]) == (2_997, 3)
    lines = [8, 1_008, 2_008] if mode == "append" else [None] * 3
    assert await scene.rows("select line from t_rejects order by line") == [(line,) for line in lines]


async def test_an_empty_table_is_no_success_by_accident(scene: Scene) -> None:
    path = scene.write("f", parquet(pa.table({"n": pa.array([], pa.int64())})))

    failed, allowed = await scene.loads({"source": path}, {"source": path, "min_rows": 0, "table": "u"})

    assert "0 rows came" in message(failed)
    assert result(allowed)["rows"] == 0
    assert await scene.types("u") == {"n": "bigint"}


async def test_widening_keeps_numbers_numbers(scene: Scene) -> None:
    await scene.pg.execute("create table t (n bigint, x integer)")
    table = pa.table({"n": pa.array([Decimal("1.5")], pa.decimal128(9, 1)), "x": pa.array([1], pa.int32())})

    await scene.load(source=scene.write("f", parquet(table)), on_schema_change="evolve")

    assert await scene.types() == {"n": "numeric", "x": "integer"}


@pytest.mark.parametrize("parallel", [1, 3])
async def test_it_may_be_packed_or_in_an_archive_beside_other_files(scene: Scene, parallel: int) -> None:
    content = numbers(100, groups=1)
    sources = [
        scene.write("1.gz", gzip.compress(content)),
        scene.write("2.zip", archive(("f.parquet", content))),
        scene.write("3.csv", "n,text\n1,a\n"),
    ]

    job = await scene.load(source=sources, parallel=parallel)

    assert result(job)["rows"] == 201


async def test_it_may_be_behind_http(near: Scene) -> None:  # noqa: F811
    async with serving(Web(numbers(1_000, groups=3))) as web:
        job = await near.load(source=f"{web.url}/file", chunk_bytes=1_000)

    assert result(job)["rows"] == 1_000


async def test_what_is_no_parquet_is_said_to_be_none(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f", "n\n1\n"), format="parquet")

    assert "is not Parquet" in message(job)


async def test_damaged_files_end_in_an_error_that_names_them(scene: Scene) -> None:
    whole = numbers(500, groups=2)
    draw = random.Random(7)  # noqa: S311 - damage that repeats
    jobs: list[dict[str, object]] = [{"source": scene.write("cut", whole[:-9])}]
    for number in range(60):
        broken = bytearray(whole)
        for _ in range(draw.choice((1, 3, 20))):
            broken[draw.randrange(4, len(broken))] = draw.randrange(256)
        jobs.append({"source": scene.write(f"f{number}", bytes(broken)), "table": f"t{number}"})

    ended = await scene.loads(*jobs)

    assert "cut is damaged" in message(ended[0])
    failed = [message(job) for job in ended if job["status"] == "failed"]
    assert len(failed) > 20
    assert all("/f" in text or "/cut" in text for text in failed), failed
