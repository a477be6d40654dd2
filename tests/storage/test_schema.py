"""The schema: models, migrations and DDL.sql are one, and every way of bringing it up is safe."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.config import Settings, load_settings
from dataloader.domain.jobs import Keys
from dataloader.exceptions import SchemaVersionError
from dataloader.storage.db import Connection, open_engine
from dataloader.storage.migrate import check_version, head_version, migrate, render_ddl
from dataloader.storage.models import SCHEMA_TOKEN, Base
from dataloader.storage.queries import in_schema
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.storage.repositories.promotion import PromotionRepository
from tests.conftest import _connect, _execute, _settings, direct_dsn
from tests.storage.scene import job, until

ROOT = Path(__file__).parents[2]

_CATALOGUE = {
    "columns": """
        select c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
               a.attnum, pg_get_expr(d.adbin, d.adrelid)
          from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
         where c.relnamespace = $1::regnamespace and c.relkind = 'r'""",
    "constraints": """
        select t.relname || '.' || c.conname, pg_get_constraintdef(c.oid)
          from pg_constraint c join pg_class t on t.oid = c.conrelid
         where c.connamespace = $1::regnamespace and c.contype <> 'n'""",
    "indexes": """
        select c.relname, pg_get_indexdef(c.oid), c.reloptions
          from pg_class c where c.relnamespace = $1::regnamespace and c.relkind = 'i'""",
    "tables": """
        select c.relname, c.reloptions, obj_description(c.oid, 'pg_class')
          from pg_class c where c.relnamespace = $1::regnamespace and c.relkind = 'r'""",
    "functions": """
        select p.oid::regprocedure::text, pg_get_functiondef(p.oid), obj_description(p.oid, 'pg_proc')
          from pg_proc p where p.pronamespace = $1::regnamespace""",
    "domains": """
        select t.typname, format_type(t.typbasetype, t.typtypmod), t.typnotnull, c.conname, pg_get_constraintdef(c.oid)
          from pg_type t join pg_constraint c on c.contypid = t.oid
         where t.typnamespace = $1::regnamespace and t.typtype = 'd'""",
    "others": """
        select t.typname, t.typtype::text from pg_type t
         where t.typnamespace = $1::regnamespace and t.typrelid = 0 and t.typelem = 0
        union all
        select c.relname, c.relkind::text from pg_class c
         where c.relnamespace = $1::regnamespace and c.relkind not in ('r', 'i')
        union all
        select t.tgname, 'trigger' from pg_trigger t join pg_class c on c.oid = t.tgrelid
         where c.relnamespace = $1::regnamespace""",
}


async def catalogue(pg: Connection, schema: str) -> dict[str, dict[str, tuple[object, ...]]]:
    """Return everything a schema consists of."""
    found: dict[str, dict[str, tuple[object, ...]]] = {}
    for kind, query in _CATALOGUE.items():
        rows = await pg.fetch(query, schema)
        found[kind] = {str(row[0]): tuple(row)[1:] for row in rows if "dl_alembic_version" not in str(row[0])}
    return found


MakeEmpty = Callable[..., Awaitable[Settings]]


@pytest.fixture
async def make_empty(server: dict[str, object]) -> AsyncIterator[MakeEmpty]:
    """Create databases without a schema; answers the settings that lead there directly."""
    admin = load_settings(_env_file=None, **server)
    names = []

    async def make(**overrides: object) -> Settings:
        names.append(f"dl_{secrets.token_hex(6)}")
        await _execute(admin, f"create database {names[-1]}")
        return _settings(server, names[-1], **overrides)

    yield make
    for name in names:
        await _execute(admin, f"drop database {name} with (force)")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Open a connection for a block."""
    connection = await _connect(settings)
    try:
        yield connection
    finally:
        await connection.close()


class TestOneSchema:
    async def test_the_models_and_the_migrations_make_the_same_tables(self, make_empty: MakeEmpty) -> None:
        by_models, by_migrations = await make_empty(), await make_empty(pg_schema=SCHEMA_TOKEN)
        uuid7 = files("dataloader.storage.migrations").joinpath("sql", "0001", "01_uuid7.sql").read_text("utf-8")
        engine = open_engine(by_models)
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"create schema {SCHEMA_TOKEN}")
            await connection.exec_driver_sql(in_schema(uuid7.split("--;")[0], SCHEMA_TOKEN))
            await create_all(connection)
        await engine.dispose()
        await migrate(by_migrations)

        async with connected(by_models) as one, connected(by_migrations) as two:
            models, migrations = await catalogue(one, SCHEMA_TOKEN), await catalogue(two, SCHEMA_TOKEN)

        del models["functions"], migrations["functions"]
        assert len(models["columns"]) > 60
        assert models == migrations

    async def test_the_text_makes_the_same_schema_as_the_migrations_and_stamps_it(self, make_empty: MakeEmpty) -> None:
        by_text, by_migrations = await make_empty(), await make_empty()
        async with connected(by_text) as pg:
            await pg.execute(render_ddl())
        await migrate(by_migrations)

        async with connected(by_text) as one, connected(by_migrations) as two:
            assert await catalogue(one, "public") == await catalogue(two, "public")
        await checked(by_text)

    async def test_the_text_can_be_made_for_another_schema(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty(pg_schema="etl")
        async with connected(settings) as pg:
            await pg.execute("create schema etl")
            await pg.execute(render_ddl("etl"))
            assert await pg.fetchval("select count(*) from pg_tables where schemaname = 'public'") == 0

        await checked(settings)

    async def test_applying_the_text_twice_is_refused_in_whole(self, make_empty: MakeEmpty) -> None:
        async with connected(await make_empty()) as pg:
            await pg.execute(render_ddl())
            before = await catalogue(pg, "public")
            with pytest.raises(asyncpg.DuplicateTableError):
                await pg.execute(render_ddl())
            await pg.execute("rollback")

            assert await catalogue(pg, "public") == before

    def test_the_file_at_the_root_is_the_text(self) -> None:
        assert (ROOT / "DDL.sql").read_text("utf-8") == render_ddl(), "run `make ddl`"

    async def test_every_function_says_what_it_is_for(self, pg: Connection) -> None:
        functions = (await catalogue(pg, "public"))["functions"]

        assert {name.partition("(")[0] for name in functions} == {
            "dl_uuid7", "dl_fingerprint", "dl_enqueue_many", "dl_enqueue", "dl_lock_kinds", "dl_promote", "dl_cancel",
            "dl_retry",
        }  # fmt: skip
        assert all(comment for _, comment in functions.values())


async def create_all(connection: AsyncConnection) -> None:
    """Create the models' tables in the schema that is named in them."""
    untranslated = await connection.execution_options(schema_translate_map=None)
    await untranslated.run_sync(Base.metadata.create_all)


async def checked(settings: Settings) -> None:
    """Check the schema's version."""
    engine = open_engine(settings)
    try:
        await check_version(engine, settings.pg_schema)
    finally:
        await engine.dispose()


class TestMigrating:
    async def test_a_schema_that_is_new_is_created_and_migrating_again_changes_nothing(
        self, make_empty: MakeEmpty
    ) -> None:
        settings = await make_empty(pg_schema="etl")
        await migrate(settings)
        async with connected(settings) as pg:
            before = await catalogue(pg, "etl")
            await migrate(settings)
            assert await catalogue(pg, "etl") == before
            assert await pg.fetch("select * from etl.dl_alembic_version") == [(head_version(),)]  # type: ignore[comparison-overlap]
        await checked(settings)

    async def test_processes_that_start_at_once_migrate_once(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty(pg_schema="etl")
        environment = {
            "PATH": os.environ["PATH"], "DL_DB_DSN": direct_dsn(settings), "PG_SCHEMA": "etl", "HOME": "/nowhere"
        } | {name: value for name, value in os.environ.items() if name.startswith("COV")}  # fmt: skip
        code = (
            "import asyncio; from dataloader.config import load_settings;"
            "from dataloader.storage.migrate import migrate; asyncio.run(migrate(load_settings(_env_file=None)))"
        )

        async def start() -> tuple[int | None, str]:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", code, env=environment, stderr=asyncio.subprocess.PIPE
            )
            _, stderr = await process.communicate()
            return process.returncode, stderr.decode()

        assert await asyncio.gather(*(start() for _ in range(4))) == [(0, "")] * 4
        await checked(settings)

    async def test_twelve_connections_that_migrate_at_once_do_not_hinder_each_other(
        self, make_empty: MakeEmpty
    ) -> None:
        settings = await make_empty()

        await asyncio.gather(*(migrate(settings) for _ in range(12)))

        await checked(settings)

    async def test_a_lock_is_waited_for_in_turns_so_that_nothing_queues_behind_the_migration(
        self, make_empty: MakeEmpty
    ) -> None:
        settings = await make_empty()
        await migrate(settings)
        async with connected(settings) as holder, connected(settings) as pg:
            await holder.execute("begin; lock table dl_alembic_version in access exclusive mode")
            waiting = "select pid from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
            async with asyncio.TaskGroup() as group:
                migration = group.create_task(migrate(settings))
                first = await until(lambda: pg.fetchval(waiting))

                async def gave_way() -> bool:
                    waits = "select 1 from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'"
                    return not await pg.fetchval(waits, first)

                await until(gave_way)
                assert not migration.done()
                await holder.execute("rollback")

        await checked(settings)

    async def test_its_patience_ends_with_a_message(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty()
        async with connected(settings) as holder:
            await holder.execute("begin; select pg_advisory_xact_lock(hashtextextended('dataloader.public', 4))")
            with pytest.raises(SchemaVersionError, match="locked by another transaction"):
                await migrate(settings, patience_s=0.0)

    async def test_a_statement_timeout_of_the_role_does_not_end_its_wait(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty()
        async with connected(settings) as holder:
            name = await holder.fetchval("select current_database()")
            await holder.execute(f"alter database \"{name}\" set statement_timeout = '300ms'")
            await holder.execute("begin; select pg_advisory_xact_lock(hashtextextended('dataloader.public', 4))")
            with pytest.raises(SchemaVersionError, match="locked by another transaction"):
                await migrate(settings, patience_s=0.0)

    async def test_an_error_that_is_no_lock_is_not_retried(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty()
        async with connected(settings) as pg:
            await pg.execute("create table dl_jobs (mine int)")

        with pytest.raises(Exception, match='relation "dl_jobs" already exists'):
            await migrate(settings)

        async with connected(settings) as pg:
            assert await pg.fetchval("select count(*) from pg_tables where tablename like 'dl_%'") == 1

    async def test_a_role_that_owns_the_schema_needs_no_right_to_create_one(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty(pg_schema="etl")
        async with connected(settings) as pg:
            role = f"limited_{os.getpid()}"
            await pg.execute(f"create role {role} login password 'limited'; create schema etl authorization {role}")
            try:
                limited = settings.model_copy(update=as_role(settings, role))
                async with connected(limited) as mine:
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await mine.execute("create schema other")
                await migrate(limited)
                await checked(limited)
            finally:
                await pg.execute(f"drop schema etl cascade; drop owned by {role}; drop role {role}")


def as_role(settings: Settings, role: str) -> dict[str, Any]:
    """Return the settings that differ for another role."""
    if settings.dl_db_dsn is None:
        return {"pg_user": role}
    parts = urlsplit(settings.dl_db_dsn.get_secret_value())
    place = parts.netloc.rpartition("@")[2]
    dsn = urlunsplit(parts._replace(netloc=f"{role}:limited@{place}"))
    return {"dl_db_dsn": type(settings.dl_db_dsn)(dsn)}


class TestVersions:
    async def test_a_database_without_a_schema_says_what_to_do(self, make_empty: MakeEmpty) -> None:
        with pytest.raises(SchemaVersionError, match=r"has no Dataloader schema.*dataloader migrate.*DL_AUTO_MIGRATE"):
            await checked(await make_empty())

    async def test_a_newer_schema_is_left_alone(self, make_empty: MakeEmpty) -> None:
        settings = await make_empty()
        await migrate(settings)
        async with connected(settings) as pg:
            await pg.execute("update dl_alembic_version set version_num = '9999'")

        for attempt in (checked, migrate):
            with pytest.raises(SchemaVersionError, match=r"version 9999.*upgrade Dataloader"):
                await attempt(settings)


async def test_what_every_update_of_a_job_compares_stands_before_what_is_long_or_may_be_missing(pg: Connection) -> None:
    """The server finds a column by walking over those before it, unless all of them have a fixed size and a value."""
    columns = await pg.fetch(
        """
        select a.attname as name, a.attlen > 0 as fixed, a.attnotnull as never_null,
               exists (select from pg_index i join pg_depend d on d.objid = i.indexrelid
                        where d.classid = 'pg_class'::regclass and i.indrelid = a.attrelid
                          and d.refobjid = a.attrelid and d.refobjsubid = a.attnum)
               or a.attname = 'job_id' as indexed
          from pg_attribute a
         where a.attrelid = 'dl_jobs'::regclass and a.attnum > 0 and not a.attisdropped
         order by a.attnum"""
    )
    ranks = [
        0 if column["fixed"] and column["never_null"] else 1 if column["indexed"] and column["never_null"] else 2
        for column in columns
    ]

    assert ranks == sorted(ranks)
    assert {column["name"] for column, rank in zip(columns, ranks, strict=True) if rank == 1} == {
        "status",
        "queue",
        "task",
    }


async def test_two_schemas_in_one_database_do_not_see_each_other(make_empty: MakeEmpty) -> None:
    settings = await make_empty(pg_schema="one")
    await migrate(settings)
    await migrate(settings.model_copy(update={"pg_schema": "two"}))
    request = job(idempotency_key="k", lock_key="l", partition_key="p")

    async with connected(settings) as pg, connected(settings) as other:
        payloads: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        for channel in ("dl_one", "dl_two"):
            await other.add_listener(channel, lambda *told: payloads.put_nowait((str(told[2]), str(told[3]))))
        answers = {}
        for schema in ("one", "two"):
            (answers[schema],) = await IntakeRepository(schema).enqueue(pg, [request], actor=None, notify=True)
        assert all(answer.created for answer in answers.values())
        assert [await asyncio.wait_for(payloads.get(), 5) for _ in range(2)] == [
            ("dl_one", "promote"), ("dl_two", "promote")
        ]  # fmt: skip

        transaction = other.transaction()
        await transaction.start()
        keys = Keys(frozenset({"l"}), frozenset({"p"}))
        assert await PromotionRepository("one").promote(other, keys) == {"q": 1}
        assert await PromotionRepository("two").promote(pg, keys) == {"q": 1}
        await IntakeRepository("one").enqueue(other, [job(partition_key="p")], actor=None)
        await IntakeRepository("two").enqueue(pg, [job(partition_key="p")], actor=None)
        await transaction.commit()
