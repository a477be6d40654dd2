"""`replace`: rows are loaded into a new table, which takes the old one's place in one transaction."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from uuid import UUID

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_ident, quote_text
from dataloader.connectors.loading.exchange import exchange_rows
from dataloader.connectors.loading.shape import TableShape, describe_table, described
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError

_PREFIX = "dl_new_"

_TURN = "1s"
_PAUSE_S = 1.0

_TIED = """
with it as (select $1::text::regclass::oid as oid)
select exists (select from pg_depend d, it where d.refobjid = it.oid and d.deptype = 'n'
                  and d.classid in ('pg_rewrite'::regclass, 'pg_proc'::regclass))
    or exists (select from pg_depend d, it, pg_class c where d.refobjid = it.oid and d.deptype in ('a', 'i')
                  and d.objid = c.oid and c.relkind = 'S')
    or exists (select from pg_constraint c, it where c.confrelid = it.oid or (c.conrelid = it.oid and c.contype = 'f'))
    or exists (select from pg_trigger t, it where t.tgrelid = it.oid)
    or exists (select from pg_rewrite r, it where r.ev_class = it.oid)
    or exists (select from pg_policy p, it where p.polrelid = it.oid)
    or exists (select from pg_inherits i, it where it.oid in (i.inhrelid, i.inhparent))
    or exists (select from pg_publication_rel r, it where r.prrelid = it.oid)
    or exists (select from pg_publication p where p.puballtables)
    or exists (select from pg_publication_namespace n, pg_class c, it
                where c.oid = it.oid and n.pnnspid = c.relnamespace)
    or exists (select from pg_attribute a, it where a.attrelid = it.oid and (a.attacl is not null
                  or a.attoptions is not null or coalesce(a.attstattarget, -1) <> -1))
    or exists (select from pg_class c, it where c.oid = it.oid and (c.relacl is not null or c.reloptions is not null
                  or c.relkind <> 'r' or c.relpersistence <> 'p' or c.relrowsecurity or c.relreplident <> 'd'
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
    await conn.execute(f"comment on table {new.sql} is {quote_text(f'rows of a load into {table}')}")


async def leftovers(conn: Connection, table: TableName, *, but: TableName) -> list[tuple[TableName, UUID]]:
    """Return the tables that other jobs were loading into in order to replace `table`, and those jobs."""
    rows = await conn.fetch(_LEFTOVERS, table.schema, str(table), but.name)
    return [(TableName(table.schema, row["relname"]), UUID(row["relname"][len(_PREFIX) :])) for row in rows]


async def drop(conn: Connection, table: TableName) -> None:
    """Drop a table if it is there."""
    await conn.execute(f"drop table if exists {table.sql}")


async def swap(
    conn: Connection, new: TableName, table: TableName, *, evolve: bool, told: Callable[[str], None]
) -> None:
    """Put the new rows in the place of the old ones, in the caller's transaction.

    A table that views, sequences, foreign keys, triggers, policies, grants or publications hang on, or anything else
    that would refuse its end, keeps its identity: its rows are exchanged. So does one that got columns or indexes
    while the new one was being loaded. Any other is exchanged itself, which takes no time.

    Args:
        conn: Inside the caller's transaction.
        new: Where the rows are.
        table: Whose place they take.
        evolve: Whether the table may get the columns and types that the new one has got.
        told: Told what is waited for.

    Raises:
        PermanentError: Another table refers to the rows by now, or the table cannot take them.
    """
    if await describe_table(conn, table) is None:
        await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
        await conn.execute(f"comment on table {table.sql} is null")
        return
    await _lock(conn, table, told)
    await check_replaceable(conn, table)
    shapes = await described(conn, new), await described(conn, table)
    indexes = await conn.fetch(_INDEXES, table.sql)
    if await conn.fetchval(_TIED, table.sql) or await _has_grown(conn, new, shapes, indexes):
        await exchange_rows(conn, new, table, shapes, evolve=evolve)
        return
    note = await _comment(conn, table)
    try:
        async with conn.transaction():
            await conn.execute(f"drop table {table.sql}")
    except asyncpg.DependentObjectsStillExistError:
        await exchange_rows(conn, new, table, shapes, evolve=evolve)
        return
    await conn.execute(f"alter table {new.sql} rename to {quote_ident(table.name)}")
    await conn.execute(f"comment on table {table.sql} is {note}")
    await _rename_indexes(conn, table, indexes)


async def _lock(conn: Connection, table: TableName, told: Callable[[str], None]) -> None:
    """Lock a table in turns: whoever comes to read it waits for a turn at most, however long others hold it."""
    before = await conn.fetchval("select current_setting('lock_timeout')")
    while True:
        try:
            async with conn.transaction():
                await conn.execute(f"set local lock_timeout = '{_TURN}'")
                await conn.execute(f"lock table {table.sql} in access exclusive mode")
                await conn.execute("select set_config('lock_timeout', $1, true)", before)
        except asyncpg.LockNotAvailableError:
            told(f"waiting for transactions that use {table}")
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def _has_grown(
    conn: Connection, new: TableName, shapes: tuple[TableShape, TableShape], indexes: Sequence[asyncpg.Record]
) -> bool:
    """Return whether the old table has columns or indexes that the new one, which began as its copy, lacks."""
    given, held = shapes
    copied = Counter(row["definition"] for row in await conn.fetch(_INDEXES, new.sql))
    return not (held.columns.keys() <= given.columns.keys() and held.computed <= given.computed) or bool(
        Counter(row["definition"] for row in indexes) - copied
    )


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
