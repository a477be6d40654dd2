"""COPY and upsert into real tables."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import pytest
from pydantic import BaseModel

from dataloader.config import Settings
from dataloader.connectors.identifiers import TableName, parse_table
from dataloader.connectors.rows import NamedRow, Row
from dataloader.connectors.tables import copy_rows, upsert
from dataloader.exceptions import InvalidError
from dataloader.storage.db import Connection, connect

RATES = TableName("public", "rates")


@dataclass(frozen=True, slots=True)
class Rate:
    day: date
    code: str
    value: Decimal | None


class RateModel(BaseModel):
    day: date
    code: str
    value: Decimal | None


DAY = date(2025, 4, 1)
USD = Rate(DAY, "USD", Decimal("85.4963"))
EUR = Rate(DAY, "EUR", None)


@pytest.fixture
async def rates(pg: Connection) -> TableName:
    await pg.execute("create table public.rates (day date, code text, value numeric, primary key (day, code))")
    return RATES


async def stored(pg: Connection, table: TableName = RATES) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await pg.fetch(f"select * from {table.sql} order by 1, 2")]


@pytest.mark.parametrize(
    "rows",
    [
        [(DAY, "EUR", None), (DAY, "USD", Decimal("85.4963"))],
        [[DAY, "EUR", None], [DAY, "USD", Decimal("85.4963")]],
        [EUR, USD],
        [{"code": "EUR", "value": None, "day": DAY}, {"day": DAY, "code": "USD", "value": Decimal("85.4963")}],
        [RateModel(day=DAY, code="EUR", value=None), RateModel(day=DAY, code="USD", value=Decimal("85.4963"))],
    ],
    ids=["tuples", "lists", "dataclasses", "mappings", "models"],
)
async def test_copy_takes_rows_of_every_kind(pg: Connection, rates: TableName, rows: list[Row]) -> None:
    async with pg.transaction():
        assert await copy_rows(pg, rates, rows) == 2

    assert await stored(pg) == [(DAY, "EUR", None), (DAY, "USD", Decimal("85.4963"))]


async def test_copy_takes_tuples_of_the_columns_named(pg: Connection, rates: TableName) -> None:
    await copy_rows(pg, rates, [("USD", DAY)], columns=("code", "day"))

    assert await stored(pg) == [(DAY, "USD", None)]


async def test_copy_takes_a_generator_and_nothing(pg: Connection, rates: TableName) -> None:
    assert await copy_rows(pg, rates, (row for row in [USD])) == 1
    assert await copy_rows(pg, rates, []) == 0


async def test_rows_roll_back_with_the_callers_transaction(pg: Connection, rates: TableName) -> None:
    transaction = pg.transaction()
    await transaction.start()
    await copy_rows(pg, rates, [EUR])
    await upsert(pg, rates, [USD], key=("day", "code"))
    await transaction.rollback()

    assert await stored(pg) == []


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([(DAY, "USD"), (DAY, "EUR", None)], None),
        ([(DAY, "USD")], ("day", "code", "value")),
        ([(DAY, "USD"), {"day": DAY, "code": "EUR"}], None),
        ([{"day": DAY, "code": "USD"}, {"day": DAY, "kode": "EUR"}], None),
        ([{"day": DAY}, {"day": DAY, "code": "EUR"}], None),
        ([{"day": DAY, "code": "EUR"}, {"day": DAY}], None),
        ([{"day": DAY, "code": "EUR", "nowhere": 1}], None),
        ([(DAY, "USD")], ("day", "nowhere")),
        ([(DAY, "USD")], ("day", "day")),
        ([(DAY, "USD")], ()),
    ],
)
async def test_copy_refuses_rows_that_do_not_fit(
    pg: Connection, rates: TableName, rows: list[Row], columns: Sequence[str] | None
) -> None:
    with pytest.raises(InvalidError):
        await copy_rows(pg, rates, rows, columns=columns)

    assert await stored(pg) == []


@pytest.mark.parametrize("name", ["nowhere", "nowhere.rates"])
async def test_a_missing_table_is_named(pg: Connection, name: str) -> None:
    table = parse_table(name, schema="public")

    with pytest.raises(InvalidError, match=str(table)):
        await copy_rows(pg, table, [USD])
    with pytest.raises(InvalidError, match=str(table)):
        await upsert(pg, table, [USD], key=("day", "code"))


@pytest.mark.parametrize(
    "shape", [lambda rate: rate, lambda rate: {"value": rate.value, "code": rate.code, "day": rate.day}]
)
async def test_upsert_inserts_what_is_new_and_changes_what_differs(
    pg: Connection, rates: TableName, shape: Callable[[Rate], NamedRow]
) -> None:
    await upsert(pg, rates, [USD, EUR], key=("day", "code"))

    assert await upsert(pg, rates, [shape(Rate(DAY, "USD", None)), shape(EUR)], key=("day", "code")) == 2

    assert await stored(pg) == [(DAY, "EUR", None), (DAY, "USD", None)]


async def test_of_rows_with_the_same_key_the_last_wins(pg: Connection, rates: TableName) -> None:
    rows = [Rate(DAY, "USD", Decimal(number)) for number in (1, 3, 2)]

    assert await upsert(pg, rates, rows, key=("day", "code")) == 1

    assert await stored(pg) == [(DAY, "USD", Decimal(2))]


async def test_equal_keys_that_are_written_differently_are_one_key(pg: Connection) -> None:
    await pg.execute("create table public.prices (price numeric primary key, note text)")
    rows = [{"price": Decimal(price), "note": price} for price in ("1.0", "1", "1.00")]

    assert await upsert(pg, TableName("public", "prices"), rows, key=("price",)) == 1

    assert await pg.fetchval("select note from public.prices") == "1.00"


async def test_an_unchanged_row_gets_no_new_version(pg: Connection, rates: TableName) -> None:
    await upsert(pg, rates, [USD, EUR], key=("day", "code"))
    before = await pg.fetch("select code, ctid from public.rates order by code")

    await upsert(pg, rates, [EUR, Rate(DAY, "USD", Decimal("85.5"))], key=("day", "code"))

    after = await pg.fetch("select code, ctid from public.rates order by code")
    assert before[0] == after[0]
    assert before[1] != after[1]


async def test_a_change_that_equality_does_not_see_is_stored(pg: Connection, rates: TableName) -> None:
    await upsert(pg, rates, [Rate(DAY, "USD", Decimal("85.5"))], key=("day", "code"))

    await upsert(pg, rates, [Rate(DAY, "USD", Decimal("85.5000"))], key=("day", "code"))

    assert await pg.fetchval("select value::text from public.rates") == "85.5000"


async def test_columns_without_equality_can_be_upserted(pg: Connection) -> None:
    await pg.execute("create table public.documents (id bigint primary key, body json)")
    table = TableName("public", "documents")
    await upsert(pg, table, [{"id": 1, "body": '{"a": 1}'}], key=("id",))

    await upsert(pg, table, [{"id": 1, "body": '{"a": 2}'}], key=("id",))

    assert await pg.fetchval("select body ->> 'a' from public.documents") == "2"


async def test_a_table_of_only_its_key_is_filled(pg: Connection) -> None:
    await pg.execute("create table public.seen (id bigint primary key)")
    table = TableName("public", "seen")
    await upsert(pg, table, [{"id": 1}], key=("id",))

    assert await upsert(pg, table, [{"id": 1}, {"id": 2}], key=("id",)) == 2

    assert [row["id"] for row in await pg.fetch("select id from public.seen order by id")] == [1, 2]


async def test_names_are_quoted_everywhere(pg: Connection) -> None:
    table = TableName('Odd.Schema"', 'T"; drop table x; --')
    await pg.execute(f'create schema "Odd.Schema"""; create table {table.sql} ("K y" int primary key, "v""" text)')

    await upsert(pg, table, [{"K y": 1, 'v"': "a"}], key=("K y",))
    await upsert(pg, table, [{"K y": 1, 'v"': "b"}], key=("K y",))
    await copy_rows(pg, table, [{'v"': "c", "K y": 2}])

    assert await stored(pg, table) == [(1, "b"), (2, "c")]


@pytest.mark.parametrize(
    ("rows", "key", "complaint"),
    [
        ([USD], (), "named"),
        ([USD], ("day", "day"), "once"),
        ([], (), "named"),
        ([USD], ("day", "nowhere"), "nowhere"),
        ([USD], ("day",), "no unique key on"),
        ([{"day": DAY, "code": "USD", "nowhere": 1}], ("day", "code"), "nowhere"),
        ([USD, {"day": DAY, "code": "EUR"}], ("day", "code"), "value"),
        ([(DAY, "USD", None)], ("day", "code"), "name their columns"),
        ([{"day": DAY, "code": [1]}], ("day", "code"), "plain values"),
        (["USD"], ("day", "code"), "name its columns"),
    ],
)
async def test_upsert_says_what_does_not_fit(
    pg: Connection, rates: TableName, rows: list[NamedRow], key: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InvalidError, match=complaint):
        await upsert(pg, rates, rows, key=key)

    assert await stored(pg) == []


async def test_many_rows_are_upserted_in_one_call(pg: Connection, rates: TableName) -> None:
    rows = [Rate(DAY, f"{number:05}", Decimal(number)) for number in range(20_000)]

    async with asyncio.timeout(20):
        assert await upsert(pg, rates, rows, key=("day", "code")) == 20_000

    assert await pg.fetchval("select count(*) from public.rates") == 20_000


async def test_two_jobs_with_the_same_rows_in_opposite_order_do_not_deadlock(
    settings: Settings, pg: Connection, rates: TableName
) -> None:
    rows = [Rate(DAY, f"{number:04}", Decimal(1)) for number in range(300)]
    await upsert(pg, rates, rows, key=("day", "code"))

    async def change(order: list[Rate], value: int) -> None:
        own = await connect(settings, purpose="test")
        try:
            for number in range(10):
                changed = [Rate(rate.day, rate.code, Decimal(value + number)) for rate in order]
                async with own.transaction():
                    await upsert(own, rates, changed, key=("day", "code"))
        finally:
            await own.close()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(change(rows, 100))
        group.create_task(change(rows[::-1], 200))

    assert await pg.fetchval("select count(distinct value) from public.rates") == 1
