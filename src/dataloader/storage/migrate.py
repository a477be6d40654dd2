"""Brings the schema to this version, safely for many processes at once, and says when it is not."""

from __future__ import annotations

import asyncio
import io
import time
from importlib.resources import files

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.config import Settings
from dataloader.exceptions import SchemaVersionError
from dataloader.storage.db import open_engine, translated

PATIENCE_S = 60.0
_LOCK_TIMEOUT = "2s"
_VERSION_TABLE = "dl_alembic_version"


def _config(schema: str, output: io.StringIO | None = None) -> Config:
    config = Config(output_buffer=output) if output else Config()
    config.set_main_option("script_location", str(files("dataloader.storage").joinpath("migrations")))
    config.attributes["schema"] = schema
    return config


def head_version() -> str:
    """Return the schema version this code needs."""
    return str(ScriptDirectory.from_config(_config("public")).get_current_head())


async def migrate(settings: Settings, *, patience_s: float = PATIENCE_S) -> None:
    """Create or upgrade the schema in one transaction, under a lock shared by all processes.

    A table that a long transaction holds is waited for in short turns, so that nothing queues up behind the migration.

    Raises:
        SchemaVersionError: The schema is newer than this version, or a lock could not be had in time.
        DatabaseAwayError: The server cannot be reached.
    """
    engine = open_engine(settings, purpose="migrate")
    deadline = time.monotonic() + patience_s
    try:
        with translated():
            while not await _try_upgrade(engine, settings.pg_schema):
                if time.monotonic() > deadline:
                    raise SchemaVersionError(
                        "The schema is locked by another transaction; try the migration again later"
                    )
                await asyncio.sleep(0.2)
    finally:
        await engine.dispose()


async def _try_upgrade(engine: AsyncEngine, schema: str) -> bool:
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, schema)
    except DBAPIError as error:
        if not isinstance(error.orig and error.orig.__cause__, asyncpg.LockNotAvailableError):
            raise
        return False
    return True


def _upgrade(connection: Connection, schema: str) -> None:
    connection.execute(text(f"set local lock_timeout = '{_LOCK_TIMEOUT}'"))
    connection.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 4))"), {"name": f"dataloader.{schema}"}
    )
    if not connection.scalar(text("select 1 from pg_namespace where nspname = :name"), {"name": schema}):
        connection.execute(text(f'create schema "{schema}"'))
    current = _current(connection, schema)
    if current is not None and current not in _known_versions():
        raise SchemaVersionError(_too_new(current))
    config = _config(schema)
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection, schema: str) -> str | None:
    """Return the database's schema version, None when there is no schema yet."""
    table = f'"{schema}".{_VERSION_TABLE}'
    if connection.scalar(text("select to_regclass(:name)"), {"name": table}) is None:
        return None
    version: str | None = connection.scalar(text(f"select version_num from {table}"))  # noqa: S608 - checked name
    return version


def _known_versions() -> set[str]:
    return {script.revision for script in ScriptDirectory.from_config(_config("public")).walk_revisions()}


def _too_new(current: str) -> str:
    return f"The database's schema is at version {current}, which this Dataloader does not know; upgrade Dataloader"


async def check_version(engine: AsyncEngine, schema: str) -> None:
    """Make sure that the database's schema is the one this code needs.

    Raises:
        SchemaVersionError: It is not; the message says what to do.
        DatabaseAwayError: The server cannot be reached.
    """
    with translated():
        async with engine.connect() as connection:
            current = await connection.run_sync(_current, schema)
    if current == head_version():
        return
    if current is not None and current not in _known_versions():
        raise SchemaVersionError(_too_new(current))
    state = "has no Dataloader schema" if current is None else f"is at schema version {current}"
    advice = "run `dataloader migrate`, or set DL_AUTO_MIGRATE=true"
    raise SchemaVersionError(f"The database {state}, this version needs {head_version()}: {advice}")


def render_ddl(schema: str = "public") -> str:
    """Return the whole schema as SQL; applying it is as good as migrating, it stamps the version."""
    output = io.StringIO()
    command.upgrade(_config(schema, output), "head", sql=True)
    header = "-- The schema of Dataloader, generated from its migrations by `make ddl`; do not edit.\n\n"
    lines = [line.rstrip() for line in output.getvalue().splitlines()]
    return header + "\n".join(lines).strip() + "\n"
