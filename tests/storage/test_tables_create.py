"""Creating target tables: once, whoever asks, and from checked names and types only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.connectors.identifiers import TableName
from dataloader.connectors.tables import ensure_table
from dataloader.exceptions import InvalidError
from dataloader.storage.db import Connection, connect

TABLE = TableName("public", "target")
COLUMNS = {"day": "date", "code": "text", "value": "numeric(18, 4)"}


async def test_a_missing_table_is_created_with_its_key(pg: Connection) -> None:
    assert await ensure_table(pg, TABLE, COLUMNS, primary_key=("day", "code")) is True

    await pg.execute("insert into public.target values ('2025-04-01', 'USD', 85.49631)")
    assert await pg.fetchval("select value::text from public.target") == "85.4963"
    with pytest.raises(asyncpg.UniqueViolationError):
        await pg.execute("insert into public.target values ('2025-04-01', 'USD', 1)")


async def test_an_existing_table_is_left_alone_and_costs_no_lock(pg: Connection) -> None:
    await pg.execute("create table public.target (other int)")

    async with pg.transaction():
        assert await ensure_table(pg, TABLE, COLUMNS) is False
        locks = await pg.fetchval(
            "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        )

    assert locks == 0
    assert await pg.fetch("select other from public.target") == []


@pytest.fixture
async def rival(settings: Settings) -> AsyncIterator[Connection]:
    connection = await connect(settings, purpose="test")
    yield connection
    await connection.close()


@pytest.fixture
async def watcher(settings: Settings) -> AsyncIterator[Connection]:
    connection = await connect(settings, purpose="test")
    yield connection
    await connection.close()


async def until_one_waits(watcher: Connection) -> None:
    """Return once some session of this database waits for an advisory lock."""
    sql = """
        select exists (
            select from pg_locks
            where locktype = 'advisory' and not granted
                and database = (select oid from pg_database where datname = current_database())
        )"""
    async with asyncio.timeout(10):
        while not await watcher.fetchval(sql):
            continue


async def test_two_jobs_that_find_the_table_missing_wait_for_each_other(
    pg: Connection, rival: Connection, watcher: Connection
) -> None:
    async with asyncio.TaskGroup() as group, pg.transaction():
        assert await ensure_table(pg, TABLE, COLUMNS, primary_key=("day",)) is True
        second = group.create_task(ensure_table(rival, TABLE, COLUMNS, primary_key=("day",)))
        await until_one_waits(watcher)

    assert second.result() is False


async def test_after_a_rollback_the_one_that_waited_creates_the_table(
    pg: Connection, rival: Connection, watcher: Connection
) -> None:
    async with asyncio.TaskGroup() as group:
        transaction = pg.transaction()
        await transaction.start()
        await ensure_table(pg, TABLE, COLUMNS)
        second = group.create_task(ensure_table(rival, TABLE, COLUMNS))
        await until_one_waits(watcher)
        await transaction.rollback()

    assert second.result() is True


@pytest.mark.parametrize(
    "kind",
    [
        "text",
        "double precision",
        "numeric",
        "NUMERIC(18,4)",
        "numeric(18, 4)",
        "character varying(10)",
        "varchar(10)",
        "timestamp with time zone",
        "timestamp(3) without time zone",
        "timestamptz",
        "integer[]",
        "pg_catalog.int8",
        "jsonb",
    ],
)
async def test_types_are_accepted_as_postgresql_writes_them(pg: Connection, kind: str) -> None:
    assert await ensure_table(pg, TABLE, {"a": kind})


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "text; drop table x",
        "text)",
        "int references other",
        "text default now()",
        "int not null",
        "text -- x",
        "a\n",
    ],
)
async def test_what_is_no_type_is_refused_before_it_reaches_the_server(pg: Connection, kind: str) -> None:
    with pytest.raises(InvalidError, match="type"):
        await ensure_table(pg, TABLE, {"a": kind})


@pytest.mark.parametrize(
    ("table", "columns", "key"),
    [
        (TABLE, {}, ()),
        (TABLE, {"a": "int"}, ("b",)),
        (TABLE, {"a": "int"}, ("a", "a")),
        (TABLE, {"": "int"}, ()),
        (TABLE, {"a": "no_such_type"}, ()),
        (TableName("nowhere", "target"), {"a": "int"}, ()),
    ],
)
async def test_what_cannot_be_created_is_an_invalid_request(
    pg: Connection, table: TableName, columns: dict[str, str], key: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidError):
        await ensure_table(pg, table, columns, primary_key=key)
