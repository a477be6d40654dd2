"""Connections to the service's own PostgreSQL: how one is opened, when it counts as gone, what each purpose gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy.exc import DBAPIError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from dataloader.config import Settings
from dataloader.domain.datasets import Database
from dataloader.domain.json_values import parse
from dataloader.exceptions import DatabaseAwayError, DataloaderError, SettingsError

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection

CONNECT_TIMEOUT_S = 3.0
COMMAND_TIMEOUT_S = 10.0
POOL_TIMEOUT_S = 3.0
SHOWN_DEPTH_LIMIT = 100
"""Deepest value of a job that lists and answers show: those who write and read them have limits of about 200."""

_TRANSACTION_TIMEOUT_SINCE = 17

_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.DiskFullError,
    PoolTimeoutError,
    asyncpg.InternalClientError,
)
_TRANSIENT = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.QueryCanceledError,
    asyncpg.InvalidCachedStatementError,
    asyncpg.OutOfMemoryError,
)
_CLOSED = ("connection is closed", "connection was closed", "the underlying connection")


def connect_options(settings: Settings, *, dsn: str | None = None) -> dict[str, Any]:
    """Return what `asyncpg.connect` needs to reach the configured database; `dsn` wins over the settings."""
    if dsn is None and settings.dl_db_dsn is not None:
        dsn = settings.dl_db_dsn.get_secret_value()
    if dsn is not None:
        return {"dsn": dsn}
    if settings.pg_host is None:
        raise SettingsError(
            "No database is configured: set PG_HOST or DL_DB_DSN, or run `dataloader up` for an embedded one"
        )
    return {
        "host": settings.pg_host,
        "port": settings.pg_port,
        "user": settings.pg_user,
        "password": settings.pg_password.get_secret_value() or None,
        "database": settings.pg_database,
    }


def direct_dsn(settings: Settings) -> str | None:
    """Return the address that goes past a pooler, None where the usual one does: what needs a session needs it."""
    dsn = settings.dl_listen_dsn.get_secret_value() if settings.dl_listen_dsn else None
    return None if dsn == "none" else dsn


def own_database(settings: Settings) -> Database:
    """Return how lineage calls the service's database."""
    options = connect_options(settings)
    if "dsn" in options:
        return Database.of_dsn(options["dsn"])
    return Database.at(options["host"], options["port"], options["database"])


class _Released(asyncpg.Connection):
    """A connection whose end lets go of a COPY that waits to send more: the driver would let it wait for good."""

    def __init__(self, protocol: Any, *arguments: Any) -> None:
        super().__init__(protocol, *arguments)
        self.add_termination_listener(lambda _: protocol.resume_writing())


async def connect(
    settings: Settings,
    *,
    purpose: str,
    dsn: str | None = None,
    command_timeout_s: float | None = COMMAND_TIMEOUT_S,
    hot: bool = False,
    **driver_options: Any,
) -> Connection:
    """Open a connection; `purpose` shows in the server's activity list.

    With `hot` a statement is planned once, and by indexes: planning an exchange takes longer than executing it, and a
    plan that was kept from an empty table reads all of it later.

    Raises:
        DatabaseAwayError: The server cannot be reached now.
        SettingsError: The server refuses these credentials or this database for good.
    """
    options = connect_options(settings, dsn=dsn) | driver_options
    with translated():
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
            **(options | {"connection_class": _Released}),
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=command_timeout_s,
            statement_cache_size=settings.dl_pg_statement_cache,
            server_settings={"application_name": f"dataloader {purpose}"},
        )
        if settings.dl_pg_statement_cache > 0:
            await _set_defaults(connection, bounded=purpose == "api", hot=hot)
        return connection


async def _set_defaults(connection: asyncpg.Connection[asyncpg.Record], *, bounded: bool, hot: bool) -> None:
    """Undo what a role or database sets for others; a transaction pooler would hand it on to another client.

    Sent as a statement: PgBouncer refuses such parameters at the start. Where `bounded`, the role's limits of
    statements stay; a session may always idle: listeners and pools do.
    """
    names = {"default_transaction_isolation": "read committed", "idle_session_timeout": "0"}
    if hot:
        names |= {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
    if not bounded:
        names |= dict.fromkeys(limits(connection), "0")
    sql = "; ".join(f"set {name} = '{value}'" for name, value in names.items())
    try:
        await connection.execute(sql, timeout=CONNECT_TIMEOUT_S)
    except BaseException:
        connection.terminate()
        raise


def limits(connection: Connection) -> tuple[str, ...]:
    """Return the settings that limit how long a statement, its locks and its transaction may take on this server."""
    since_17 = connection.get_server_version().major >= _TRANSACTION_TIMEOUT_SINCE
    return ("statement_timeout", "lock_timeout", *(("transaction_timeout",) if since_17 else ()))


def is_away(error: BaseException) -> bool:
    """Return whether an error, or what caused it, says that the service's database went away."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        current = pending.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, DatabaseAwayError) or _is_away_itself(current):
            return True
        if isinstance(current, DBAPIError | DataloaderError):
            pending += [current.__cause__, getattr(current, "orig", None)]
    return False


def is_passing(error: BaseException) -> bool:
    """Return whether a statement of ours may simply be repeated later: the server is away or was busy."""
    return isinstance(error, _TRANSIENT) or is_away(error)


def _is_away_itself(error: BaseException) -> bool:
    if isinstance(error, asyncpg.InterfaceError | InterfaceError):
        return any(text in str(error) for text in _CLOSED)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or _is_away_cause(error.orig)
    return isinstance(error, _AWAY)


def _is_away_cause(error: BaseException | None) -> bool:
    """Look below SQLAlchemy's adapter for the driver's own error."""
    return error is not None and error.__cause__ is not None and _is_away_itself(error.__cause__)


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's ways of saying "gone" or "not for you" into the project's errors."""
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise SettingsError(f"PG_USER, PG_PASSWORD or DL_DB_DSN: the server refused the login ({error})") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise SettingsError(f"PG_DATABASE or DL_DB_DSN: {error}; create it first") from error
    except TimeoutError as error:
        raise DatabaseAwayError("PostgreSQL did not answer in time") from error
    except Exception as error:
        if not is_away(error) or isinstance(error, DatabaseAwayError):
            raise
        raise DatabaseAwayError(f"PostgreSQL cannot be reached: {type(error).__name__}") from error


def open_engine(settings: Settings, *, purpose: str = "api") -> AsyncEngine:
    """Create the pool for warm paths (API, lists, migrations); it connects when it is first used."""
    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=partial(connect, settings, purpose=purpose),
        pool_size=settings.pg_pool_size,
        max_overflow=settings.pg_max_overflow,
        pool_recycle=settings.pg_pool_recycle,
        pool_timeout=POOL_TIMEOUT_S,
        json_deserializer=partial(parse, depth_limit=SHOWN_DEPTH_LIMIT),
        execution_options={"schema_translate_map": {"dataloader_schema": settings.pg_schema}},
    )


class PinnedConnection:
    """One autocommit connection kept for one purpose; it is replaced after any doubt about its state.

    Args:
        settings: Where to connect.
        purpose: Shown in the server's activity list.
        dsn: Another address than the configured one, for the listener.
    """

    def __init__(self, settings: Settings, *, purpose: str, dsn: str | None = None) -> None:
        self._settings = settings
        self._purpose = purpose
        self._dsn = dsn
        self._lock = asyncio.Lock()
        self._connection: Connection | None = None
        self.generation = 0

    @asynccontextmanager
    async def use(self) -> AsyncIterator[Connection]:
        """Lend the connection to one caller at a time, opening it first when needed.

        Raises:
            DatabaseAwayError: The server went away or did not answer in time; the connection has been dropped.
        """
        async with self._lock:
            connection = await self._ensure()
            try:
                with translated():
                    yield connection
            except (asyncpg.PostgresError, DataloaderError) as error:
                if is_away(error) or connection.is_in_transaction():
                    self.drop()
                raise
            except BaseException:
                self.drop()
                raise

    async def _ensure(self) -> Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._settings, purpose=self._purpose, dsn=self._dsn, hot=True)
            self.generation += 1
        return self._connection

    def drop(self) -> None:
        """Cut the connection without waiting for the server; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is not None and not connection.is_closed():
            connection.terminate()

    async def close(self) -> None:
        """End the connection in order, or cut it when the server does not answer."""
        connection, self._connection = self._connection, None
        if connection is None or connection.is_closed():
            return
        try:
            await connection.close(timeout=1.0)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection.terminate()
