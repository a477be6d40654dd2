"""A query or table of another database: its columns, its keys, and which of its rows are settled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import asyncpg

from dataloader.connectors.identifiers import parse_table, quote_all, quote_ident
from dataloader.domain.datasets import Database
from dataloader.exceptions import PermanentError, SourceError

if TYPE_CHECKING:
    SourceConnection = asyncpg.Connection[asyncpg.Record]
else:
    SourceConnection = asyncpg.Connection

CONNECT_TIMEOUT_S = 20.0
_DIGEST = 12
READERS = ("dataloader load.sql", "dataloader unload.table")
"""What our sessions on sources call themselves; they write nothing."""

_TEXT_FORMS = {
    "datestyle": "ISO, YMD",
    "intervalstyle": "postgres",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "default_transaction_read_only": "on",
    "application_name": READERS[0],
}
_KEY = """
select array_agg(a.attname::text order by array_position(i.indkey::int2[], a.attnum))
  from pg_index i
  join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey::int2[])
 where i.indrelid = to_regclass($1) and i.indisprimary
"""
_TYPES = """
select array_agg(case oid when 'bit'::regtype then 'bit varying' else format_type(oid, -1) end order by n)
  from unnest($1::oid[]) with ordinality t (oid, n)
"""
"""Types without their lengths; `character` and `bit` would have one, of 1."""

_MODIFIED_TYPES = """
select attname::text as name, format_type(atttypid, atttypmod) as type
  from pg_attribute
 where attrelid = $1::text::regclass and attnum > 0 and not attisdropped
"""
_REFUSED = (
    asyncpg.SyntaxOrAccessError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.FeatureNotSupportedError,
    asyncpg.DataError,
    asyncpg.ReadOnlySQLTransactionError,
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows of a range of keys.

    Attributes:
        key: Names of the key's columns; none means all rows.
        after: Texts of the key before the first row, None from the beginning.
        upto: Texts of the key of the last row, None to the end.
        including: Whether rows of the key `after` belong to them.
    """

    key: tuple[str, ...] = ()
    after: tuple[str, ...] | None = None
    upto: tuple[str, ...] | None = None
    including: bool = False


@dataclass(frozen=True, slots=True)
class SqlSource:
    """What is read.

    Attributes:
        name: For messages.
        relation: The query in parentheses, or the table, as SQL.
        columns: Name to type, as PostgreSQL writes it.
        dataset: What it is called in the ledger of chunks.
    """

    connection: SourceConnection = field(repr=False)
    name: str
    relation: str
    columns: Mapping[str, str]
    dataset: str
    _table: str | None = None

    async def primary_key(self) -> tuple[str, ...]:
        """Return the columns of the table's primary key; none if there is none, or it is a query."""
        if self._table is None:
            return ()
        return tuple(await self.connection.fetchval(_KEY, self._table) or ())

    async def last_of(self, bounds: Bounds, rows: int) -> tuple[str, ...] | None:
        """Return the key of the last of the next so many rows, None if there are none.

        All rows of that key belong to them, so that there may be more.

        Raises:
            PermanentError: The key does not lead on: whoever asked would ask the same again for ever.
        """
        key = quote_all(bounds.key)
        texts = ", ".join(f"{quote_ident(name)}::text" for name in bounds.key)
        descending = ", ".join(f"k.{quote_ident(name)} desc" for name in bounds.key)
        ordered = f"select {key} from {self.relation} q where {self._condition(bounds)} order by {key} limit {rows}"  # noqa: S608
        with refused(self.name):
            row = await self.connection.fetchrow(
                f"select {texts} from ({ordered}) k order by {descending} limit 1"  # noqa: S608 - all quoted
            )
        if row is None:
            return None
        last = tuple(row.values())
        if last == bounds.after and not bounds.including:
            raise PermanentError(
                f"{self.name}: the rows behind ({', '.join(last)}) are not found by ({', '.join(bounds.key)}), whose "
                "text does not say where it stands; cast it in a query, or give another key"
            )
        return last

    async def about_rows(self) -> int:
        """Return how many rows there are, as the planner of the database guesses."""
        with refused(self.name):
            plan = await self.connection.fetchval(f"explain (format json) select * from {self.relation} q")  # noqa: S608
        return int(json.loads(plan)[0]["Plan"]["Plan Rows"])

    async def highest(self, key: str) -> str | None:
        """Return the greatest value of a column as text, None if there is none."""
        name = quote_ident(key)
        with refused(self.name):
            found: str | None = await self.connection.fetchval(f"select max({name})::text from {self.relation} q")  # noqa: S608
        return found

    async def reaches(self, key: str, text: str) -> bool:
        """Return whether a row has this value of a column or a greater one, as the column orders them."""
        kind = self.columns[key]
        sql = f"select exists (select from {self.relation} q where {quote_ident(key)} >= {_literal(text)}::{kind})"  # noqa: S608
        with refused(self.name):
            return bool(await self.connection.fetchval(sql))

    async def has_nulls(self, key: tuple[str, ...]) -> bool:
        """Return whether a row lacks a part of its key: no range of keys would have it."""
        lacking = " or ".join(f"{quote_ident(name)} is null" for name in key)
        sql = f"select exists (select from {self.relation} q where {lacking})"  # noqa: S608 - all quoted
        with refused(self.name):
            return bool(await self.connection.fetchval(sql))

    def copy_sql(self, columns: tuple[str, ...], bounds: Bounds) -> str:
        """Return the query of a range's rows, in the order of their keys."""
        order = f" order by {quote_all(bounds.key)}" if bounds.key else ""
        return f"select {quote_all(columns)} from {self.relation} q where {self._condition(bounds)}{order}"  # noqa: S608

    def _condition(self, bounds: Bounds) -> str:
        parts = [
            f"({quote_all(bounds.key)}) {sign} ({self._literals(bounds.key, edge)})"
            for sign, edge in ((">=" if bounds.including else ">", bounds.after), ("<=", bounds.upto))
            if edge is not None
        ]
        return " and ".join(parts) or "true"

    def _literals(self, key: tuple[str, ...], texts: tuple[str, ...]) -> str:
        return ", ".join(f"{_literal(text)}::{self.columns[name]}" for name, text in zip(key, texts, strict=True))


@asynccontextmanager
async def open_source(
    dsn: str, *, connection_name: str, query: str | None, table: str | None, database: Database | None = None
) -> AsyncIterator[SqlSource]:
    """Connect to a database, read-only, and describe what is to be read.

    Args:
        dsn: Where it is; never shown.
        connection_name: What it is called, for messages.
        query: A single query, or None.
        table: A table or view, `name` or `schema.name`, or None.
        database: How lineage calls the database; by default as `dsn` does.

    Raises:
        PermanentError: The database refuses us, or the query.
        SourceError: It cannot be reached now.
    """
    connection = await _connect(dsn, connection_name)
    try:
        yield await _described(connection, connection_name, query, table, database=database or Database.of_dsn(dsn))
    finally:
        connection.terminate()


async def _connect(dsn: str, name: str) -> SourceConnection:
    with refused(name):
        try:
            connection: SourceConnection = await asyncpg.connect(
                dsn, timeout=CONNECT_TIMEOUT_S, server_settings=_TEXT_FORMS
            )
        except ValueError:
            raise PermanentError(
                f"the address of {name} in DL_CONNECTIONS says what is not known; look behind its question mark"
            ) from None
        except TimeoutError:
            raise SourceError(f"{name} did not answer within {CONNECT_TIMEOUT_S:g} s") from None
    return connection


async def _described(
    connection: SourceConnection, connection_name: str, query: str | None, table: str | None, *, database: Database
) -> SqlSource:
    if table is not None:
        schema = await connection.fetchval("select current_schema()")
        found = parse_table(table, schema=schema or "public")
        name, relation, dataset = f"{connection_name}.{found}", found.sql, database.table(found.schema, found.name)
    else:
        name, relation = f"the query of {connection_name}", f"(\n{(query or '').strip().rstrip(';')}\n)"
        dataset, found = database.query(hashlib.sha256(relation.encode()).hexdigest()[:_DIGEST]), None
    with refused(name):
        statement = await connection.prepare(f"select * from {relation} q")  # noqa: S608 - one statement, read-only
        attributes = statement.get_attributes()
        types = await connection.fetchval(
            _TYPES,
            [attribute.type.oid for attribute in attributes],
        )
        columns = dict(zip([attribute.name for attribute in attributes], types or (), strict=True))
        if found is not None:
            rows = await connection.fetch(_MODIFIED_TYPES, found.sql)
            columns |= {row["name"]: row["type"] for row in rows}
    if len(columns) < len(attributes) or not columns:
        raise PermanentError(f"{name}: every column needs a name of its own")
    return SqlSource(connection, name, relation, columns, dataset, found.sql if found else None)


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Turn what a source's database raises into our errors; what may pass by itself is tried again by the job.

    Raises:
        PermanentError: It refuses us or the query.
        SourceError: It went away, or ended the query.
    """
    try:
        yield
    except _REFUSED as error:
        raise PermanentError(f"{name}: {error.args[0]}") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise SourceError(f"{name}: {error.args[0] if error.args else type(error).__name__}") from None
    except OSError as error:
        raise SourceError(f"{name} cannot be reached: {error.strerror or type(error).__name__}") from None


def _literal(text: str) -> str:
    escaped = text.replace("'", "''").replace("\\", "\\\\")
    return f" E'{escaped}'"
