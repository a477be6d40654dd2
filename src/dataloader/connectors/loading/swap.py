"""`replace`: rows are loaded into a new table, which takes the old one's place in one transaction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_ident
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError

_PREFIX = "dl_new_"

_TIED = """
with it as (select $1::text::regclass::oid as oid)
select exists (select from pg_depend d, it where d.refobjid = it.oid and d.deptype = 'n'
                  and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass))
    or exists (select from pg_depend d, it, pg_class c where d.refobjid = it.oid and d.deptype in ('a', 'i')
                  and d.objid = c.oid and c.relkind = 'S')
    or exists (select from pg_constraint c, it where c.confrelid = it.oid or (c.conrelid = it.oid and c.contype = 'f'))
    or exists (select from pg_trigger t, it where t.tgrelid = it.oid)
    or exists (select from pg_policy p, it where p.polrelid = it.oid)
    or exists (select from pg_inherits i, it where it.oid in (i.inhrelid, i.inhparent))
    or exists (select from pg_publication_rel r, it where r.prrelid = it.oid)
    or exists (select from pg_attribute a, it where a.attrelid = it.oid and a.attacl is not null)
    or exists (select from pg_class c, it where c.oid = it.oid and (c.relacl is not null or c.reloptions is not null
                  or c.relkind <> 'r' or c.relpersistence <> 'p' or c.relrowsecurity
                  or c.relowner <> current_user::regrole))
"""
"""Whether anything hangs on the table itself, and would be lost or refuse with it."""

_INDEXES = """
select c.relname as name,
       concat_ws(' ', i.indisprimary, i.indisunique, substring(pg_get_indexdef(c.oid) from ' USING .*$')) as definition
  from pg_index i join pg_class c on c.oid = i.indexrelid
 where i.indrelid = $1::text::regclass
 order by c.relname
"""

_SEQUENCES = """
select a.attname as name, pg_get_serial_sequence($1, a.attname) as sequence, s.seqincrement > 0 as rising
  from pg_attribute a
  join pg_sequence s on s.seqrelid = pg_get_serial_sequence($1, a.attname)::regclass
 where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
"""

_LEFTOVERS = """
select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = $1 and c.relkind = 'r' and c.relname like 'dl\\_new\\_%'
   and obj_description(c.oid, 'pg_class') = 'rows of a load into ' || $2::text and c.relname <> $3
"""


def new_table(table: TableName, job_id: UUID) -> TableName:
    """Return the name of the table that a job loads into before it takes the place of `table`."""
    return TableName(table.schema, f"{_PREFIX}{job_id.hex}")


async def check_replaceable(conn: Connection, table: TableName) -> None:
    """Accept a table whose rows may be exchanged for others.

    Raises:
        PermanentError: Other tables refer to its rows.
    """
    others = await conn.fetchval(
        "select string_agg(distinct conrelid::regclass::text, ', ') from pg_constraint"
        " where confrelid = to_regclass($1) and conrelid <> confrelid",
        table.sql,
    )
    if others:
        raise PermanentError(f"{table} cannot be replaced: {others} refers to its rows; use mode=merge")


async def create_like(conn: Connection, new: TableName, table: TableName) -> None:
    """Create an empty table with the columns, defaults, checks and indexes of another one."""
    await conn.execute(f"create table {new.sql} (like {table.sql} including all)")


async def mark(conn: Connection, new: TableName, table: TableName) -> None:
    """Say in the table's comment whose place it is to take, so that one that was left behind can be found."""
    note = f"rows of a load into {table}".replace("'", "''")
    await conn.execute(f"comment on table {new.sql} is '{note}'")


async def leftovers(conn: Connection, table: TableName, *, but: TableName) -> list[tuple[TableName, UUID]]:
    """Return the tables that other jobs were loading into in order to replace `table`, and those jobs."""
    rows = await conn.fetch(_LEFTOVERS, table.schema, str(table), but.name)
    return [(TableName(table.schema, row["relname"]), UUID(row["relname"][len(_PREFIX) :])) for row in rows]


async def drop(conn: Connection, table: TableName) -> None:
    """Drop a table if it is there."""
    await conn.execute(f"drop table if exists {table.sql}")


async def swap(conn: Connection, new: TableName, table: TableName) -> None:
    """Put the new rows in the place of the old ones, in the caller's transaction.

    A table that views, sequences, foreign keys, triggers, policies, grants or publications hang on, or anything else
    that would refuse its end, keeps its identity: its rows are exchanged. Any other is exchanged itself, which takes no
    time.
    """
    if not await conn.fetchval("select to_regclass($1) is not null", table.sql):
        await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
        await conn.execute(f"comment on table {table.sql} is null")
        return
    await conn.execute(f"lock table {table.sql} in access exclusive mode")
    if await conn.fetchval(_TIED, table.sql):
        await _exchange_rows(conn, new, table)
        return
    note, indexes = await _comment(conn, table), await conn.fetch(_INDEXES, table.sql)
    try:
        async with conn.transaction():
            await conn.execute(f"drop table {table.sql}")
    except asyncpg.DependentObjectsStillExistError:
        await _exchange_rows(conn, new, table)
        return
    await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
    await conn.execute(f"comment on table {table.sql} is {note}")
    await _rename_indexes(conn, table, indexes)


async def _rename_indexes(conn: Connection, table: TableName, names: Sequence[asyncpg.Record]) -> None:
    """Give indexes the names that those of the same definition had, and so their constraints."""
    wanted: dict[str, list[str]] = defaultdict(list)
    for row in names:
        wanted[row["definition"]].append(row["name"])
    for row in await conn.fetch(_INDEXES, table.sql):
        name = wanted[row["definition"]].pop(0) if wanted[row["definition"]] else row["name"]
        if name != row["name"]:
            old = TableName(table.schema, row["name"])
            await conn.execute(f"alter index {old.sql} rename to {quote_ident(name)}")


async def _comment(conn: Connection, table: TableName) -> str:
    """Return a table's comment as SQL."""
    note: str = await conn.fetchval(
        "select coalesce(quote_literal(obj_description($1::text::regclass, 'pg_class')), 'null')", table.sql
    )
    return note


async def _exchange_rows(conn: Connection, new: TableName, table: TableName) -> None:
    """Delete and insert; `truncate` would be refused where a foreign key points at the table."""
    columns = await conn.fetchval(
        "select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute"
        " where attrelid = $1::text::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
        table.sql,
    )
    await conn.execute(f"delete from {table.sql}")  # noqa: S608 - quoted
    await conn.execute(
        f"insert into {table.sql} ({columns}) overriding system value select {columns} from {new.sql}"  # noqa: S608
    )
    for row in await conn.fetch(_SEQUENCES, table.sql):
        await _move_sequence(conn, table, row)
    await conn.execute(f"drop table {new.sql}")


async def _move_sequence(conn: Connection, table: TableName, row: asyncpg.Record) -> None:
    """Move the sequence of a column beyond the values that the column holds now; it never goes back."""
    column, utmost, beyond = quote_ident(row["name"]), *(("max", ">") if row["rising"] else ("min", "<"))
    held = f"(select {utmost}({column})::bigint as value from {table.sql}) held"  # noqa: S608 - quoted
    await conn.execute(
        f"select setval('{row['sequence']}', held.value) from {held}, {row['sequence']} its"  # noqa: S608
        f" where held.value {beyond} its.last_value or held.value = its.last_value and not its.is_called"
    )
