"""One database for all tests of this directory, emptied before each: a clone per test costs more than the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.storage.models import Base
from tests.conftest import _connect, _database, _execute, _settings

_EMPTY = f"""
do $$
declare
  name text;
begin
  perform pg_terminate_backend(a.pid) from pg_stat_activity a
    where a.datname = current_database() and a.pid <> pg_backend_pid() and a.backend_type = 'client backend';
  for name in select format('%I.%I', schemaname, tablename) from pg_tables
               where schemaname = 'public' and tablename !~ '^dl_' loop
    execute 'drop table ' || name || ' cascade';
  end loop;
  for name in select quote_ident(nspname) from pg_namespace where nspname !~ '^pg_|^public$|^information_schema$' loop
    execute 'drop schema ' || name || ' cascade';
  end loop;
  truncate {", ".join(table.name for table in Base.metadata.sorted_tables)} restart identity;
end $$
"""

Connect = Callable[[], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


@pytest.fixture(scope="session")
def shared_database(server: dict[str, object], template: str) -> Iterator[str]:
    """Name of a migrated database that the tests of this directory use one after the other."""
    with _database(server, f'create database {{}} template "{template}"') as name:
        asyncio.run(_execute(_settings(server, name), f"alter database \"{name}\" set statement_timeout = '20s'"))
        yield name


@pytest.fixture
def database(server: dict[str, object], shared_database: str) -> str:
    """Name of the shared database, emptied."""
    asyncio.run(_execute(_settings(server, shared_database), _EMPTY))
    return shared_database


@pytest.fixture
def fresh_database(server: dict[str, object]) -> Iterator[str]:
    """Name of a database without a schema."""
    with _database(server, "create database {}") as name:
        yield name


@pytest.fixture
def direct(server: dict[str, object], database: str) -> Settings:
    """Settings for this test's database without a pooler, which would answer in the server's stead."""
    return _settings(server, database)


@pytest.fixture
async def connect_more(server: dict[str, object], database: str) -> AsyncIterator[Connect]:
    """Open further sessions; they end with the test."""
    opened: list[asyncpg.Connection[asyncpg.Record]] = []
    settings = _settings(server, database)

    async def connect() -> asyncpg.Connection[asyncpg.Record]:
        opened.append(await _connect(settings))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.terminate()


@pytest.fixture
async def other(connect_more: Connect) -> asyncpg.Connection[asyncpg.Record]:
    """A second session in the test's database."""
    return await connect_more()
