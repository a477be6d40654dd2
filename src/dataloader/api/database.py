"""The API's use of the database: always bounded in time, and one log line per outage instead of one per request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from dataloader.exceptions import DatabaseAwayError, SchemaVersionError, SettingsError, UnavailableError
from dataloader.logger import Logger
from dataloader.storage.db import Connection, translated
from dataloader.telemetry.metrics import Metrics

ACQUIRE_TIMEOUT_S = 2.4
"""Longest wait for a connection; a dead one may cost SQLAlchemy two seconds more to discard."""

BUDGET_S = 4.5
"""Longest use of the database by one request, so that every answer comes within five seconds."""

_BUSY = (asyncpg.LockNotAvailableError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError)
_SLOW = (asyncpg.QueryCanceledError,)
_MISSING = (asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError, asyncpg.UndefinedColumnError)


class Database:
    """Lends connections of the pool to requests.

    Args:
        engine: The pool.
        logger: Says when the database is lost and when it is back.
        metrics: Counts failed uses.
    """

    def __init__(self, engine: AsyncEngine, *, logger: Logger, metrics: Metrics) -> None:
        self._engine = engine
        self._logger = logger
        self._metrics = metrics
        self._away_since_s: float | None = None

    @asynccontextmanager
    async def reading(self, budget_s: float = BUDGET_S) -> AsyncIterator[AsyncConnection]:
        """Lend a connection that commits nothing.

        Raises:
            DatabaseAwayError: There was none in time, or the work took longer than the budget.
        """
        with self.watched():
            async with self._lent(budget_s) as connection:
                yield connection

    @asynccontextmanager
    async def transaction(self, budget_s: float = BUDGET_S) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a transaction that is committed at the end of the block.

        Raises:
            DatabaseAwayError: As for `reading`; whether a commit that was under way succeeded is not known.
        """
        with self.watched():
            async with self._lent(budget_s) as connection:
                yield connection
                await connection.commit()

    @asynccontextmanager
    async def driver(self, budget_s: float = BUDGET_S) -> AsyncIterator[Connection]:
        """Lend the driver's own connection in autocommit, for statements that are transactions of their own.

        Raises:
            DatabaseAwayError: As for `reading`.
        """
        with self.watched():
            async with self._lent(budget_s) as connection:
                yield await _driver(connection)

    @asynccontextmanager
    async def _lent(self, budget_s: float) -> AsyncIterator[AsyncConnection]:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + budget_s
        async with asyncio.timeout(min(ACQUIRE_TIMEOUT_S, budget_s)):
            connection = await self._connect()
        driver = await _driver(connection)
        # Cutting the line ends a statement at once; cancelling it would make SQLAlchemy wait for a server that hangs.
        cut = loop.call_at(end_s, driver.terminate)
        try:
            yield connection
        except asyncio.CancelledError:
            driver.terminate()
            await connection.invalidate()
            raise
        except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            if loop.time() < end_s:
                raise
            raise DatabaseAwayError(f"PostgreSQL took longer than {budget_s:g} s") from error
        finally:
            await connection.close()
            cut.cancel()

    async def _connect(self) -> AsyncConnection:
        """Take a connection whose server has not hung up; asking the server itself would cost three round trips."""
        while True:
            connection = await self._engine.connect()
            if not (await _driver(connection)).is_closed():
                return connection
            await connection.invalidate()
            await connection.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Name what goes wrong in the block, and keep the account of outages."""
        try:
            with translated(), _named():
                yield
        except (DatabaseAwayError, SettingsError, SchemaVersionError) as error:
            self._failed(error)
            raise
        else:
            self._worked()

    def _failed(self, error: DatabaseAwayError | SettingsError | SchemaVersionError) -> None:
        self._metrics.database_error("api")
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            self._logger.error("database away, answering 503", reason=error.message)

    def _worked(self) -> None:
        if self._away_since_s is not None:
            away_s = round(time.monotonic() - self._away_since_s, 1)
            self._away_since_s = None
            self._logger.warning("database back", away_s=away_s)


async def _driver(connection: AsyncConnection) -> Connection:
    return cast("Connection", (await connection.get_raw_connection()).driver_connection)


@contextmanager
def _named() -> Iterator[None]:
    """Give the server's refusals that are nobody's fault a name of the project."""
    try:
        yield
    except DBAPIError as error:
        _raise_named(error.orig.__cause__ if error.orig else None)
        raise
    except asyncpg.PostgresError as error:
        _raise_named(error)
        raise


def _raise_named(error: BaseException | None) -> None:
    if isinstance(error, _BUSY):
        raise UnavailableError("Another transaction is in the way at the moment; try again") from error
    if isinstance(error, _SLOW):
        raise UnavailableError("The database took too long; narrow the request, or try again") from error
    if isinstance(error, _MISSING):
        raise SchemaVersionError(
            "The database's schema is missing or of another version; run `dataloader migrate`"
        ) from error
