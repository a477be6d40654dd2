"""`replace`: rows are loaded into a new table, which takes the old one's place in one transaction."""

from __future__ import annotations

from uuid import UUID

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

    A table that views, sequences, foreign keys, triggers, policies, grants or publications hang on keeps its
    identity: its rows are exchanged. Any other is exchanged itself, which takes no time.
    """
    if not await conn.fetchval("select to_regclass($1) is not null", table.sql):
        await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
        await conn.execute(f"comment on table {table.sql} is null")
        return
    await conn.execute(f"lock table {table.sql} in access exclusive mode")
    if await conn.fetchval(_TIED, table.sql):
        await _exchange_rows(conn, new, table)
        return
    key, note = await _primary_key(conn, table), await _comment(conn, table)
    await conn.execute(f"drop table {table.sql}")
    await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
    await conn.execute(f"comment on table {table.sql} is {note}")
    new_key = await _primary_key(conn, table)
    if key is not None and new_key is not None and key != new_key:
        await conn.execute(f"alter table {table.sql} rename constraint {quote_ident(new_key)} to {quote_ident(key)}")


async def _primary_key(conn: Connection, table: TableName) -> str | None:
    name: str | None = await conn.fetchval(
        "select conname from pg_constraint where conrelid = $1::text::regclass and contype = 'p'", table.sql
    )
    return name


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
    await conn.execute(f"drop table {new.sql}")
