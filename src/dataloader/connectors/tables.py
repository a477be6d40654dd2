"""Writing rows to PostgreSQL tables, on the caller's connection and inside its transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident
from dataloader.connectors.rows import Batch, NamedRow, Row, read_batch, unique_names
from dataloader.exceptions import InvalidError

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection | PoolConnectionProxy


_MODIFIER = r"(?: ?\( ?\d{1,4}(?: ?, ?-?\d{1,4})? ?\))?"
_TYPE = re.compile(
    rf"(?:double precision|(?:character|bit) varying{_MODIFIER}"
    rf"|time(?:stamp)?{_MODIFIER} with(?:out)? time zone"
    rf"|(?:[a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*{_MODIFIER})(?:\[\])*",
    re.IGNORECASE | re.ASCII,
)


async def copy_rows(
    conn: Connection, table: TableName, rows: Iterable[Row], *, columns: Sequence[str] | None = None
) -> int:
    """Append rows with binary COPY and return how many; the fastest way in, and a duplicate key fails it.

    Args:
        conn: Inside the caller's transaction.
        table: Where to.
        rows: Tuples in column order, or mappings, dataclasses or models with the same columns each.
        columns: What the values of a tuple are, by default all columns in the table's order.

    Raises:
        InvalidError: The rows differ in their columns, or the table or a column does not exist.
    """
    batch = read_batch(rows, columns=columns)
    if not batch.records:
        return 0
    with _named_errors(table):
        await conn.copy_records_to_table(
            table.name, schema_name=table.schema, records=batch.records, columns=batch.columns
        )
    return len(batch.records)


async def upsert(conn: Connection, table: TableName, rows: Iterable[NamedRow], *, key: Sequence[str]) -> int:
    """Insert rows or update those whose key exists, and return how many different keys came.

    Of rows with the same key the last one wins. A row that is stored as it is gets no new version. The rows
    are written in the order of their keys, so that two jobs with the same rows wait and do not deadlock.

    Raises:
        InvalidError: The rows differ in their columns, the key is empty, not among them or not unique in the
            table, or the table or a column does not exist.
    """
    names = unique_names(key)
    batch = read_batch(rows)
    if batch.columns is None:
        return _require_empty(batch)
    missing = set(names) - set(batch.columns)
    if missing:
        raise InvalidError(f"the rows have no column {', '.join(sorted(missing))}, which is part of the key")
    records = _last_per_key(batch, names)
    with _named_errors(table, key=names):
        await conn.executemany(upsert_sql(table, batch.columns, key=names), records)
    return len(records)


def upsert_sql(table: TableName, columns: tuple[str, ...], *, key: tuple[str, ...]) -> str:
    """Return the statement that inserts or updates one row, its parameters in the order of `columns`.

    Versions are compared as images (`*<>`), not by equality: a type may have no equality (json), and a change
    that equality does not see (a numeric's scale, a citext's case) is a change.
    """
    values = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    head = (
        f"insert into {table.sql} as stored ({quote_all(columns)}) values ({values})"  # noqa: S608 - all quoted
        f" on conflict ({quote_all(key)})"
    )
    changing = tuple(name for name in columns if name not in key)
    if not changing:
        return f"{head} do nothing"
    assignments = ", ".join(f"{quote_ident(name)} = excluded.{quote_ident(name)}" for name in changing)
    old, new = quote_all(changing, prefix="stored."), quote_all(changing, prefix="excluded.")
    return f"{head} do update set {assignments} where row({old})::record operator(pg_catalog.*<>) row({new})::record"


async def ensure_table(
    conn: Connection, table: TableName, columns: Mapping[str, str], *, primary_key: Sequence[str] = ()
) -> bool:
    """Create the table unless it exists and return whether it was created; an existing one is left as it is.

    Jobs that find it missing at the same time wait for the first one's transaction to end. Where it exists,
    which is the normal path, nothing is locked.

    Args:
        conn: Inside the caller's transaction.
        table: What to create; its schema must exist.
        columns: Name to type, such as `{"settle": "numeric(18, 4)"}`.
        primary_key: Names of its columns; none by default.

    Raises:
        InvalidError: A name or type is not one, or the schema or type does not exist.
    """
    ddl = create_table_sql(table, columns, primary_key=primary_key)
    if await _exists(conn, table):
        return False
    await conn.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataloader.ensure_table:{table.sql}")
    if await _exists(conn, table):
        return False
    with _named_errors(table):
        await conn.execute(ddl)
    return True


def create_table_sql(table: TableName, columns: Mapping[str, str], *, primary_key: Sequence[str] = ()) -> str:
    """Return the statement that creates a table.

    Raises:
        InvalidError: A name or type is not one, or the key names no column.
    """
    parts = [f"{quote_ident(name)} {check_type(kind)}" for name, kind in columns.items()]
    if not parts or not set(primary_key) <= set(columns):
        raise InvalidError(f"{table} needs columns, and its primary key must be among them")
    if primary_key:
        parts.append(f"primary key ({quote_all(unique_names(primary_key))})")
    return f"create table if not exists {table.sql} ({', '.join(parts)})"


def check_type(kind: str) -> str:
    """Return the name of a column type if it is written like one.

    Raises:
        InvalidError: It is not.
    """
    if not _TYPE.fullmatch(kind):
        raise InvalidError(f"{kind[:80]!r} is not the name of a column type")
    return kind


async def canonical_type(conn: Connection, kind: str) -> str | None:
    """Return a type as PostgreSQL writes it, `numeric(10,2)` for `decimal(10, 2)`; None if it knows none of the name.

    Of the modifiers only a numeric's are kept.
    """
    name: str | None = await conn.fetchval("select to_regtype($1)::text", check_type(kind))
    _, paren, modifiers = kind.partition("(")
    return f"{name}({modifiers.replace(' ', '')}" if name == "numeric" and paren else name


async def _exists(conn: Connection, table: TableName) -> bool:
    return await conn.fetchval("select to_regclass($1) is not null", table.sql) is True


def _require_empty(batch: Batch) -> int:
    if batch.records:
        raise InvalidError("rows to upsert must name their columns (mappings, dataclasses or models)")
    return 0


def _last_per_key(batch: Batch, key: tuple[str, ...]) -> list[tuple[object, ...]]:
    names = batch.columns or ()
    places = [names.index(name) for name in key]
    try:
        latest = {tuple(record[place] for place in places): record for record in batch.records}
    except TypeError:
        raise InvalidError(f"the key ({', '.join(key)}) must consist of plain values") from None
    return [latest[values] for values in sorted(latest, key=repr)]


@contextmanager
def _named_errors(table: TableName, *, key: Sequence[str] = ()) -> Iterator[None]:
    """Turn the database's complaints about names into errors that tell the caller what to change."""
    try:
        yield
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        raise InvalidError(f"the table {table} or its schema does not exist") from None
    except (asyncpg.UndefinedColumnError, asyncpg.UndefinedObjectError) as error:
        raise InvalidError(f"{table}: {error}") from None
    except asyncpg.InvalidColumnReferenceError:
        raise InvalidError(f"{table} has no unique key on ({', '.join(key)})") from None
