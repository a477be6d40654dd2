"""Rows of a new table in the place of an old one's, where the old one must stay what it is."""

from __future__ import annotations

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident
from dataloader.connectors.loading.shape import TableShape
from dataloader.connectors.tables import Connection, check_type
from dataloader.exceptions import PermanentError

_PARTITIONED = "select relkind = 'p' from pg_class where oid = $1::text::regclass"

_SEQUENCES = """
select a.attname as name, pg_get_serial_sequence($1, a.attname) as sequence, s.seqincrement > 0 as rising
  from pg_attribute a
  join pg_sequence s on s.seqrelid = pg_get_serial_sequence($1, a.attname)::regclass
 where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
"""


async def exchange_rows(
    conn: Connection, new: TableName, table: TableName, shapes: tuple[TableShape, TableShape], *, evolve: bool
) -> None:
    """Delete and insert; `truncate` would be refused where a foreign key points at the table.

    Args:
        conn: Inside the caller's transaction.
        new: Where the rows are; it is dropped.
        table: Where they go.
        shapes: Of both, in that order.
        evolve: Give the table the columns and the types that the new one has got.

    Raises:
        PermanentError: What hangs on a column does not let its type be changed.
    """
    given, held = shapes
    if evolve:
        await _evolve(conn, table, given, held)
    columns = quote_all(tuple(name for name in given.columns if evolve or name in held.columns))
    # Tables that inherit from this one keep their rows; a partitioned one has none of its own.
    only = "" if await conn.fetchval(_PARTITIONED, table.sql) else "only "
    await conn.execute(f"delete from {only}{table.sql}")  # noqa: S608 - quoted
    await conn.execute(
        f"insert into {table.sql} ({columns}) overriding system value select {columns} from {new.sql}"  # noqa: S608
    )
    for row in await conn.fetch(_SEQUENCES, table.sql):
        await _move_sequence(conn, table, row)
    await conn.execute(f"drop table {new.sql}")


async def _evolve(conn: Connection, table: TableName, given: TableShape, held: TableShape) -> None:
    for name, kind in given.columns.items():
        if name not in held.columns:
            await conn.execute(f"alter table {table.sql} add column {quote_ident(name)} {check_type(kind)}")
        elif held.columns[name] != kind:
            try:
                await conn.execute(f"alter table {table.sql} alter column {quote_ident(name)} type {check_type(kind)}")
            except asyncpg.FeatureNotSupportedError as error:
                raise PermanentError(
                    f"column {name} of {table} would have to become {kind}: {error.args[0]}; change it by hand, or "
                    "load with on_schema_change=freeze"
                ) from None


async def _move_sequence(conn: Connection, table: TableName, row: asyncpg.Record) -> None:
    """Move the sequence of a column beyond the values that the column holds now; it never goes back."""
    column, utmost, beyond = quote_ident(row["name"]), *(("max", ">") if row["rising"] else ("min", "<"))
    held = f"(select {utmost}({column})::bigint as value from {table.sql}) held"  # noqa: S608 - quoted
    await conn.execute(
        f"select setval($1::text::regclass, held.value) from {held}, {row['sequence']} its"  # noqa: S608 - quoted
        f" where held.value {beyond} its.last_value or held.value = its.last_value and not its.is_called",
        row["sequence"],
    )
