"""A chunk's transaction: rows, state and checkpoint in one commit, the fence as its last statement."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from dataloader.config import Settings
from dataloader.connectors import tables
from dataloader.connectors.files import FileAccess
from dataloader.connectors.http import HttpClient
from dataloader.connectors.identifiers import TableName, parse_table, parse_target
from dataloader.connectors.rows import NamedRow, Row
from dataloader.domain.datasets import cleaned, is_address
from dataloader.domain.jobs import JobStatus
from dataloader.domain.json_values import dump_storable
from dataloader.exceptions import DatabaseAwayError, InvalidError, LeaseLostError
from dataloader.storage.db import Connection, limits, own_database, translated
from dataloader.storage.queries import run_name
from dataloader.storage.repositories.presence import PresenceRepository
from dataloader.storage.repositories.queue import QueueRepository
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.runs import FINAL_STAGE, Run, StopReason

ROLLBACK_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What all runs on one event loop share."""

    settings: Settings
    pool: asyncpg.Pool[asyncpg.Record]
    http: HttpClient
    files: FileAccess
    queue: QueueRepository
    metrics: Metrics
    presence: PresenceRepository

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection of the pipelines' pool; what the borrower raises passes as it is.

        Raises:
            DatabaseAwayError: The service's database cannot be reached.
        """
        with translated():
            connection = await self.pool.acquire()
        try:
            yield connection
        finally:
            with translated():
                await self.pool.release(connection)


class ChunkTransaction:
    """What can be done inside a chunk.

    Attributes:
        connection: The driver's connection, for what the methods do not cover; do not commit on it.
        saved_state: The checkpoint to be committed, None when the chunk has none.
        rows: Rows written so far by the methods of this object.
        in_turn: Called when of several chunks that are open at a time this one's turn to be committed has come: the
            place to set the checkpoint, which must tell of all before. What it returns is called after the commit.
    """

    def __init__(self, run: Run, resources: Resources, connection: Connection) -> None:
        self._run = run
        self._resources = resources
        self._progress: dict[str, object] = {}
        self.connection = connection
        self.saved_state: Mapping[str, object] | None = None
        self.rows = 0
        self._line: dict[str, object] | None = None
        self._written: dict[TableName, None] = {}
        self._began_s = time.monotonic()
        self.in_turn: Callable[[], Awaitable[Callable[[], None]]] | None = None

    async def copy_rows(self, table: str, rows: Iterable[Row], columns: Sequence[str] | None = None) -> int:
        """Append rows by COPY; tuples in column order, or mappings; return how many."""
        count = await tables.copy_rows(self.connection, self._target(table), rows, columns=columns)
        self.rows += count
        return count

    async def upsert(self, table: str, rows: Iterable[NamedRow], key: Sequence[str]) -> int:
        """Insert rows or update those whose `key` exists; return how many different keys came."""
        count = await tables.upsert(self.connection, self._target(table), rows, key=key)
        self.rows += count
        return count

    async def ensure_table(self, table: str, columns: Mapping[str, str], primary_key: Sequence[str] = ()) -> None:
        """Create a table with these columns (name to SQL type) unless it exists."""
        await tables.ensure_table(self.connection, self._table(table), columns, primary_key=primary_key)

    async def execute(self, sql: str, *values: object) -> str:
        """Execute a statement of your own; return the server's command tag."""
        return await self.connection.execute(sql, *values)

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """Execute a query of your own; return its rows."""
        return await self.connection.fetch(sql, *values)

    async def get_state(self, key: str) -> object | None:
        """Return a value of the task's small store as this chunk sees it, None when it was never set."""
        return await self._resources.presence.load_state(self.connection, self._run.job.task, key)

    async def set_state(self, key: str, value: object) -> None:
        """Set a value of the task's small store; it is committed with the chunk."""
        await self._resources.presence.save_state(
            self.connection, self._run.job.task, key, value, job_id=self._run.lease.job_id
        )

    async def has_ended(self, job_id: UUID) -> bool:
        """Return whether another job has ended, or is no longer known."""
        fates = await self._resources.queue.fates(self.connection, [job_id])
        return job_id not in fates or JobStatus(fates[job_id][1]) not in {JobStatus.QUEUED, JobStatus.RUNNING}

    def checkpoint(
        self,
        state: Mapping[str, object],
        *,
        done: float | None = None,
        total: float | None = None,
        unit: str | None = None,
        message: str | None = None,
    ) -> None:
        """Say where the next attempt goes on; committed with the chunk's rows.

        Raises:
            InvalidError: The state is not a JSON object, holds NUL or lone surrogates, or is larger than 1 MiB.
        """
        try:
            dump_storable(dict(state))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidError(f"a checkpoint must be a JSON object that says where to go on: {error}") from error
        self.saved_state = dict(state)
        given = {"done": done, "total": total, "unit": unit, "message": message}
        self._progress = {name: value for name, value in given.items() if value is not None}

    def dataset(self, table: str) -> str:
        """Return how the ledger and lineage call a table of the service's database: its address, without a secret."""
        return self._address(parse_table(table, schema=self._resources.settings.pg_schema))

    def record(
        self,
        *,
        source: str | None = None,
        target: str | None = None,
        range: Mapping[str, object] | None = None,  # noqa: A002 - the ledger's name
        rows_in: int | None = None,
        rejected: int = 0,
        size_bytes: int | None = None,
    ) -> None:
        """Say for the ledger of chunks, and for lineage, where the rows came from and where they went.

        A chunk with rows has a line of its own anyway.

        Args:
            source: A path, an address, what `dataset` says of a table, or a name; of an address neither user, password
                nor query string are kept.
            target: A table, or a file's path or address; the tables of `copy_rows` and `upsert` unless given.
            range: Where in it, as a JSON object.
            rows_in: Rows that came; as many as were written unless given.
            rejected: Rows that were set aside.
            size_bytes: Bytes that came.
        """
        self._line = {
            "source": None if source is None else cleaned(source),
            "targets": None if target is None else [cleaned(target) if is_address(target) else self.dataset(target)],
            "range": None if range is None else dict(range),
            "rows_in": rows_in,
            "rejected": rejected,
            "bytes": size_bytes,
        }

    def _ledger_line(self) -> Mapping[str, object] | None:
        if self._line is None and not self.rows:
            return None
        line = self._line or {"rejected": 0}
        rows_in = line.get("rows_in")
        return line | {
            "targets": line.get("targets") or [self._address(table) for table in self._written] or None,
            "rows_in": self.rows if rows_in is None else rows_in,
            "rows_out": self.rows,
            "ms": (time.monotonic() - self._began_s) * 1e3,
        }

    async def seal(self) -> None:
        """Fence the transaction as its last statement.

        Raises:
            LeaseLostError: The lease is gone; roll back.
        """
        if self._run.pushed >= FINAL_STAGE:
            raise LeaseLostError("this run was told to stop and did not; its chunk was rolled back")
        if self._progress:
            self._run.meter.update(self._progress)
        asked = await self._resources.queue.checkpoint(
            self.connection,
            self._run.lease,
            state=self.saved_state,
            progress=self._run.progress(),
            line=self._ledger_line(),
        )
        if asked is None:
            self._run.request_stop(StopReason.LEASE_LOST)
            raise LeaseLostError("the lease of this run is gone; its chunk was rolled back")
        if asked:
            self._run.request_stop(StopReason.CANCEL)

    def _target(self, name: str) -> TableName:
        """Return a table to write to, and keep in mind that this chunk did."""
        table = self._table(name)
        self._written[table] = None
        return table

    def _address(self, table: TableName) -> str:
        return own_database(self._resources.settings).table(table.schema, table.name)

    def _table(self, name: str) -> TableName:
        return parse_target(name, schema=self._resources.settings.pg_schema)


@asynccontextmanager
async def open_chunk(
    run: Run, resources: Resources, *, turn: asyncio.Lock | None = None
) -> AsyncIterator[ChunkTransaction]:
    """Open a chunk's transaction, and commit it behind the fence; `turn` orders the commits of several of a run.

    The transaction carries the run's name on the server, so that it can be ended there when its worker is frozen. Only
    a connection that is really gone counts as an outage: a source may fail with the same errors.
    """
    async with resources.connection() as connection:
        transaction = connection.transaction(isolation="read_committed")
        try:
            await transaction.start()
            await connection.execute(_mark(run, connection, resources.settings.pg_schema))
            chunk = ChunkTransaction(run, resources, connection)
            yield chunk
            async with turn or nullcontext():
                committed = await chunk.in_turn() if chunk.in_turn else None
                sent_s = time.monotonic()
                await chunk.seal()
                await transaction.commit()
                if committed is not None:
                    committed()
        except BaseException as error:
            if await _undo(connection, transaction, error):
                raise DatabaseAwayError(f"the chunk's connection is gone: {type(error).__name__}") from error
            raise
        run.renewed_s = max(run.renewed_s, sent_s)
        run.progress_dirty = False
        run.rows += chunk.rows
        resources.metrics.rows_loaded(run.job.task, chunk.rows)
        run.advanced = run.advanced or chunk.saved_state is not None


def _mark(run: Run, connection: Connection, schema: str) -> str:
    """Name the transaction, and let it take its time: the reaper ends the chunks of frozen workers, and only those.

    Days and instants are read alike on every server, whatever it, the database or the role has set: said here and not
    when connecting, since a pool resets what was set, and a pooler takes that for the client's wish.
    """
    name = run_name(run.lease.job_id, run.lease.epoch, schema=schema)
    said = {"application_name": name, "timezone": "UTC", "datestyle": "ISO, MDY"}
    said |= dict.fromkeys(("idle_in_transaction_session_timeout", *limits(connection)), "0")
    return "; ".join(f"set local {setting} = '{value}'" for setting, value in said.items())


async def _undo(connection: Connection, transaction: asyncpg.transaction.Transaction, error: BaseException) -> bool:
    """Roll back, or cut the connection when its state is in doubt; never hold up what ended the chunk.

    A commit that the server refused, for a constraint that is checked at the end, has rolled back already.

    Returns:
        Whether the service's database went away: the connection cannot even roll back, or takes no writes.
    """
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        _cut(connection)
        return False
    try:
        async with asyncio.timeout(ROLLBACK_TIMEOUT_S):
            if connection.is_in_transaction():
                await transaction.rollback()
            else:
                await connection.execute("select 1")
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        _cut(connection)
        return True
    return isinstance(error, asyncpg.ReadOnlySQLTransactionError | asyncpg.DiskFullError)


def _cut(connection: Connection) -> None:
    # The pool takes a lost connection back by itself; its proxy then refuses every call.
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
