"""`on_schema_change=evolve`: a column gets another type where it cannot take what comes, and only there."""

from __future__ import annotations

import json
from collections.abc import Sequence

import asyncpg
import pyarrow as pa
import pytest

from dataloader.connectors.delimited.types import observe
from dataloader.connectors.loading.seen import widened
from tests.loading.parquet_files import parquet
from tests.loading.scene import Scene, message, result

EVOLVE = {"on_schema_change": "evolve"}
LONG, EXACT = "9007199254740993", "12345678901234567890.123"
Case = tuple[str, str, str | bytes]
"""Type of a column, what it holds, and a file for it."""

UUID = "01a20c71-79d2-7d3b-bfa3-e301628db985"


async def evolved(scene: Scene, cases: Sequence[Case], **args: object) -> list[tuple[str | None, ...]]:
    """Load each file into a table with one stored row; return the type of `v` then, and its values as text."""
    loads: list[dict[str, object]] = []
    for number, (kind, stored, content) in enumerate(cases):
        await scene.pg.execute(
            f"create table e{number} (k int, v {kind}); insert into e{number} values (0, '{stored}')"
        )
        path = scene.write(f"{number}.csv", content)
        loads.append({"source": path, "table": f"e{number}", **EVOLVE, **args})
    for job in await scene.loads(*loads):
        result(job)
    return [
        ((await scene.types(f"e{number}"))["v"], *[row[0] for row in await scene.rows(_values(number))])
        for number in range(len(cases))
    ]


def _values(number: int) -> str:
    return f"select v::text from e{number} order by k"


def csv(*values: str) -> str:
    """Return a file of these values."""
    return "k,v\n" + "".join(f'{number},"{value}"\n' for number, value in enumerate(values, start=1))


async def test_a_column_that_no_value_is_seen_of_is_left_as_it_is(scene: Scene) -> None:
    nulls = parquet(pa.table({"k": pa.array([1], pa.int32()), "v": pa.nulls(1)}))
    empties = ("k,v\n1,\n", '{"k": 1, "v": null}\n', nulls)
    cases: list[Case] = [
        (kind, stored, empty) for kind, stored in (("bigint", "5"), ("numeric", EXACT)) for empty in empties
    ]

    assert await evolved(scene, cases) == [(kind, stored, None) for kind, stored, _ in cases]


async def test_a_file_of_a_header_leaves_every_column_as_it_is(scene: Scene) -> None:
    await scene.pg.execute("create table t (id bigint primary key, v numeric, d date)")

    job = await scene.load(source=scene.write("f.csv", "id,v,d\n"), min_rows=0, **EVOLVE)

    assert result(job)["rows"] == 0
    assert await scene.types() == {"id": "bigint", "v": "numeric", "d": "date"}


async def test_a_column_that_no_value_is_seen_of_becomes_text_in_a_new_table_and_as_a_new_column(scene: Scene) -> None:
    sources = [
        scene.write("1.csv", "k,v\n1,\n"),
        scene.write("2.jsonl", '{"k": 1, "v": null, "w": null}\n'),
        scene.write("3.parquet", parquet(pa.table({"k": [1], "x": pa.nulls(1)}))),
    ]

    result(await scene.load(source=sources, **EVOLVE))

    assert await scene.types() == {"k": "bigint", "v": "text", "w": "text", "x": "text"}


async def test_stored_digits_survive_floats_that_come(scene: Scene) -> None:
    floats = parquet(pa.table({"k": pa.array([1], pa.int32()), "v": pa.array([1.5], pa.float64())}))
    cases: list[Case] = [
        ("bigint", LONG, csv("1.5e3")),
        ("numeric", EXACT, csv("1e-3")),
        ("bigint", LONG, csv("NaN")),
        ("bigint", LONG, csv("Infinity", "-inf")),
        ("numeric(5,2)", "1.50", csv("Infinity")),
        ("integer", "5", csv("1.5")),
        ("bigint", LONG, floats),
        ("numeric", EXACT, floats),
    ]

    assert await evolved(scene, cases) == [
        ("numeric", LONG, "1500"),
        ("numeric", EXACT, "0.001"),
        ("numeric", LONG, "NaN"),
        ("numeric", LONG, "Infinity", "-Infinity"),
        ("numeric", "1.50", "Infinity"),
        ("numeric", "5", "1.5"),
        ("numeric", LONG, "1.5"),
        ("numeric", EXACT, "1.5"),
    ]


async def test_what_a_column_reads_does_not_change_it(scene: Scene) -> None:
    cases = [
        ("boolean", "true", csv("1", "0", "y", "off", "true")),
        ("timestamp with time zone", "2026-01-02 00:00:00+00", csv("2026-01-05", "2026-01-05 10:00", "infinity")),
        ("timestamp without time zone", "2026-01-02 00:00:00", csv("2026-01-05")),
        ("date", "2026-01-02", csv("infinity")),
        ("bigint", "5", csv("9223372036854775807")),
        ("smallint", "5", csv("-32768", "32767", " 7 ")),
        ("numeric(5,2)", "1.50", csv("999.99", "1.5000", "NaN", "1e2")),
        ("double precision", "1.5", csv(LONG)),
        ("character varying(3)", "abc", csv("1")),
        ("uuid", UUID, csv(UUID)),
        ("bigint", "5", '{"k": 1, "v": "7"}\n{"k": 2, "v": 8}\n{"k": 3, "v": 1e2}\n'),
        ("numeric(5,2)", "1.50", '{"k": 1, "v": "7.25"}\n'),
        ("boolean", "true", '{"k": 1, "v": "no"}\n{"k": 2, "v": true}\n'),
    ]

    found = await evolved(scene, cases)

    assert [kind for kind, *_ in found] == [kind for kind, *_ in cases]
    assert [values[0] for _, *values in found] == [stored for _, stored, _ in cases]


async def test_what_has_outgrown_a_column_widens_it(scene: Scene) -> None:
    wide = parquet(pa.table({"k": pa.array([1], pa.int32()), "v": pa.array([99_999_999_999], pa.int64())}))
    cases: list[tuple[str, str, str | bytes, str]] = [
        ("integer", "5", csv("99999999999"), "bigint"),
        ("smallint", "5", csv("-32769"), "bigint"),
        ("integer", "5", wide, "bigint"),
        ("bigint", "5", csv("9223372036854775808"), "numeric"),
        ("numeric(5,2)", "1.50", csv("1000"), "numeric"),
        ("numeric(5,2)", "1.50", csv("1.125"), "numeric"),
        ("numeric(5,2)", "1.50", csv("1e-3"), "numeric"),
        ("bigint", "5", '{"k": 1, "v": 1.5}\n', "numeric"),
        ("date", "2026-01-02", csv("2026-01-02 10:00"), "timestamp without time zone"),
        ("bigint", "5", csv("007"), "text"),
        ("boolean", "true", csv("2"), "text"),
        ("timestamp", "2026-01-02", csv("2026-01-02 10:00+03"), "text"),
        ("date", "2026-01-02", csv("soon"), "text"),
    ]

    found = await evolved(scene, [(kind, stored, content) for kind, stored, content, _ in cases])

    assert [kind for kind, *_ in found] == [kind for *_, kind in cases]


async def test_a_type_that_is_asked_for_is_known_by_all_its_names(scene: Scene) -> None:
    await scene.pg.execute("create table t (a integer, b integer, c numeric(5,3), d numeric, e bigserial)")
    columns = {"a": "int", "b": "int4", "c": "decimal(4, 2)", "d": "float8", "e": "bigserial"}

    result(await scene.load(source=scene.write("f.csv", "a,b,c,d,e\n1,2,3,4,5\n"), columns=columns, **EVOLVE))

    kinds = {"a": "integer", "b": "integer", "c": "numeric(5,3)", "d": "numeric", "e": "bigint"}
    assert await scene.types() == kinds


async def test_a_type_that_is_asked_for_widens_a_column_before_its_values_need_it(scene: Scene) -> None:
    await scene.pg.execute("create table t (n integer)")

    result(await scene.load(source=scene.write("f.csv", "n\n1\n"), columns={"n": "decimal(9,2)"}, **EVOLVE))

    assert await scene.types() == {"n": "numeric"}


async def test_numbers_written_in_other_ways_are_measured_as_they_are_read(scene: Scene) -> None:
    cases = [
        ("integer", "5", csv("1.234")),
        ("integer", "5", csv("99.999.999.999")),
        ("numeric(5,2)", "1.50", csv("1,5")),
    ]

    found = await evolved(scene, list(cases), decimal=",", thousands=".", delimiter=",")

    assert found == [("integer", "5", "1234"), ("bigint", "5", "99999999999"), ("numeric(5,2)", "1.50", "1.50")]


NO_CODE = "$1 !~ '^0[0-9]'"
KEPT = {
    **{kind: f"$1::text::{kind}::text = ltrim($1, '+')" for kind in ("smallint", "integer", "bigint")},
    **{kind: f"$1::text::{kind} = $1::text::numeric and {NO_CODE}" for kind in ("numeric", "numeric(5,2)")},
    "numeric(3,0)": f"$1::text::numeric(3,0) = $1::text::numeric and {NO_CODE}",
    "double precision": f"$1::text::float8 is not null and {NO_CODE}",
    "boolean": "$1::text::boolean is not null",
    "date": "$1::text::date = $1::text::timestamp and $1 !~ 'Z'",
    "timestamp without time zone": "$1::text::timestamp is not null and $1 !~ 'Z'",
    "timestamp(0) with time zone": "$1::text::timestamp(0) with time zone is not null",
    "uuid": "$1::text::uuid is not null",
}
"""Whether a column of a type reads a value and has it as it is, as the server sees it."""

VALUES = (
    *("0", "1", "-1", "+7", "32767", "32768", "-32769", "2147483648", "9223372036854775807", "9223372036854775808"),
    *("000", "5.", ".5", "1.50", "1.125", "999.99", "1000", "99999", "1e2", "1E-2", "1e20", "1e-20", "0e5"),
    *("NaN", "Infinity", "-inf", "t", "no", "Y", "off", "2026-01-02", "2026-01-02 10:00", "2026-01-02T10:00:00Z"),
    *(UUID, "word"),
)


@pytest.mark.parametrize("kind", KEPT)
async def test_a_column_keeps_its_type_just_where_the_server_reads_a_value_as_it_is(scene: Scene, kind: str) -> None:
    for value in VALUES:
        keeps = widened(kind, observe([value])) is None
        try:
            as_it_is = await scene.pg.fetchval(f"select {KEPT[kind]}", value)
        except asyncpg.DataError:
            as_it_is = False
        assert keeps is as_it_is, value


@pytest.mark.parametrize(
    ("column", "value"), [("v int, w int generated always as (v + 1) stored", "1.5"), ("v int check (v > 0)", "word")]
)
async def test_a_column_that_something_hangs_on_is_told_of_at_once(scene: Scene, column: str, value: str) -> None:
    await scene.pg.execute(f"create table t ({column})")

    job = await scene.load(source=scene.write("f.csv", f"v\n{value}\n"), **EVOLVE)

    assert "column v of public.t would have to become" in message(job)
    assert "change it by hand, or load with on_schema_change=freeze" in message(job)
    assert (await scene.types())["v"] == "integer"


async def test_a_number_beyond_all_types_is_told_of_when_it_is_loaded(scene: Scene) -> None:
    await scene.pg.execute("create table t (v numeric(5,2))")
    sources = [
        scene.write("f.csv", "v\n1e99999999999999999999\n"),
        scene.write("f.jsonl", '{"v": 1e-99999999999999999999}\n'),
    ]

    jobs = await scene.loads({"source": sources[0], **EVOLVE}, {"source": sources[1], **EVOLVE})

    assert ["f.csv, line 2" in message(jobs[0]), "f.jsonl, line 1" in message(jobs[1])] == [True, True]


async def test_a_new_column_of_long_integers_and_floats_keeps_their_digits(scene: Scene) -> None:
    mixed, pure = scene.write("1.csv", f"n\n{LONG}\nNaN\n1e2\n"), scene.write("2.csv", "n\n1e2\nNaN\n-Infinity\n")

    first, second = await scene.loads({"source": mixed}, {"source": pure, "table": "u"})

    assert result(first)["rows"] == result(second)["rows"] == 3
    assert await scene.types() == {"n": "numeric"}
    assert await scene.rows("select n::text from t") == [(LONG,), ("NaN",), ("100",)]
    assert await scene.types("u") == {"n": "double precision"}


@pytest.mark.parametrize("first", ["A", "a"])
async def test_names_that_differ_in_case_become_two_columns(scene: Scene, first: str) -> None:
    second = first.swapcase()
    lines = json.dumps({first: 1, second: 2}) + "\n"
    sources = [scene.write("f.csv", f"{first},{second}\n1,2\n"), scene.write("f.jsonl", lines)]

    for job in await scene.loads({"source": sources[0]}, {"source": sources[1]}):
        result(job)

    columns = {"a": 1, "a_2": 2} if first == "a" else {"a_2": 1, "a": 2}
    assert await scene.types() == dict.fromkeys(columns, "bigint")
    assert await scene.rows() == [tuple(columns.values())] * 2


async def test_a_header_that_is_a_name_keeps_it_beside_one_that_would_become_it(scene: Scene) -> None:
    await scene.load(source=scene.write("f.csv", "price,price,price_2\n1,2,3\n"))

    assert await scene.types() == {"price": "bigint", "price_3": "bigint", "price_2": "bigint"}


async def test_replacing_a_table_without_the_key_that_is_asked_for_is_refused(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int, m int); insert into t values (7, 7)")
    how: dict[str, object] = {"source": scene.write("f.csv", "n,m\n1,2\n"), "mode": "replace", "primary_key": ["n"]}

    (refused,) = await scene.loads(how)
    await scene.pg.execute("alter table t add unique (m, n)")
    (refused_again,) = await scene.loads(how)
    await scene.pg.execute("alter table t add primary key (n)")
    accepted, other_order = await scene.loads(how, how | {"primary_key": ["n", "m"]})

    advice = 'alter table "public"."t" add primary key ("n"), or leave primary_key out'
    assert advice in message(refused)
    assert advice in message(refused_again)
    assert result(accepted)["rows"] == result(other_order)["rows"] == 1
    assert await scene.rows() == [(1, 2)]


@pytest.mark.parametrize(
    "index", ["unique index on t (n) where m > 0", "unique index on t ((n + 0))", "index on t (n)"]
)
async def test_an_index_that_does_not_tell_all_rows_apart_is_no_key(scene: Scene, index: str) -> None:
    await scene.pg.execute(f"create table t (n int, m int); create {index}")

    job = await scene.load(source=scene.write("f.csv", "n,m\n1,2\n"), mode="replace", primary_key=["n"])

    assert "public.t has no primary key (n)" in message(job)
