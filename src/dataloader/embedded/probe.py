"""The server's state as a client sees it: "running" means that we can connect."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import asyncpg
from asyncpg.connect_utils import SessionAttribute

from dataloader.embedded.errors import EmbeddedServerError
from dataloader.embedded.home import PORT

_TIMEOUT_S = 5.0
_GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.PostgresConnectionError,
)


class Answer(StrEnum):
    """How a server answers; busy: it starts, stops, or has no connection left."""

    READY = "ready"
    BUSY = "busy"
    AWAY = "away"


async def _connect(socket_dir: Path) -> asyncpg.Connection[asyncpg.Record]:
    """Connect as the superuser; the arguments leave nothing to the environment or a password file."""
    return await asyncpg.connect(
        host=str(socket_dir),
        port=PORT,
        user="postgres",
        password="",
        database="postgres",
        ssl=False,
        target_session_attrs=SessionAttribute.any,
        timeout=_TIMEOUT_S,
        command_timeout=60,
    )


async def ask(socket_dir: Path, database: str) -> Answer:
    """Return whether the server takes connections and has the database, which is created if it is missing.

    The caller holds the start lock, so nobody else creates it meanwhile.

    Raises:
        EmbeddedServerError: The server refuses.
    """
    try:
        connection = await _connect(socket_dir)
        try:
            await _create_database(connection, database)
        finally:
            connection.terminate()
    except (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
        return Answer.BUSY
    except _GONE:
        return Answer.AWAY
    except asyncpg.PostgresError as error:
        raise EmbeddedServerError(f"PostgreSQL in {socket_dir} cannot be used: {error}") from error
    return Answer.READY


async def _create_database(connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
    if not await connection.fetchval("select true from pg_database where datname = $1", name):
        quoted = name.replace('"', '""')
        await connection.execute(f'create database "{quoted}"')
