"""What a table looks like now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dataloader.connectors.identifiers import TableName
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError

_COLUMNS = """
select a.attname as name, format_type(a.atttypid, a.atttypmod) as type,
       a.attgenerated <> '' or a.attidentity = 'a' as computed, t.typcategory = 'S' as texty
  from pg_attribute a
  join pg_type t on t.oid = a.atttypid
 where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped
 order by a.attnum
"""
_TELLS_APART = """
select exists (
  select from pg_index i
   where i.indrelid = to_regclass($1) and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
     and (select array_agg(a.attname::text order by a.attname::text)
            from pg_attribute a
           where a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]))
         = (select array_agg(name order by name) from unnest($2::text[]) name))
"""
_KINDS = {"v": "a view", "m": "a materialized view", "S": "a sequence", "i": "an index", "c": "a type"}


@dataclass(frozen=True, slots=True)
class TableShape:
    """A table's columns.

    Attributes:
        columns: Name to type, as PostgreSQL writes it, of the columns that can be written.
        computed: Names of generated ones, which cannot.
        texts: Names of those that hold text of some kind.
    """

    columns: Mapping[str, str]
    computed: frozenset[str]
    texts: frozenset[str]


async def describe_table(conn: Connection, table: TableName) -> TableShape | None:
    """Return a table's shape, None if it does not exist.

    Raises:
        PermanentError: The name is that of something else.
    """
    kind = await conn.fetchval("select relkind::text from pg_class where oid = to_regclass($1)", table.sql)
    if kind is None:
        return None
    if kind in _KINDS:
        raise PermanentError(f"{table} is {_KINDS[kind]}, not a table")
    rows = await conn.fetch(_COLUMNS, table.sql)
    return TableShape(
        {row["name"]: row["type"] for row in rows if not row["computed"]},
        frozenset(row["name"] for row in rows if row["computed"]),
        frozenset(row["name"] for row in rows if row["texty"]),
    )


async def described(conn: Connection, table: TableName) -> TableShape:
    """Return the shape of a table that is there.

    Raises:
        PermanentError: It is not, or it is something else.
    """
    shape = await describe_table(conn, table)
    if shape is None:
        raise PermanentError(f"{table} is gone; trigger a new job")
    return shape


async def tells_apart(conn: Connection, table: TableName, columns: Sequence[str]) -> bool:
    """Return whether a table holds its rows apart by these columns: by its primary key, or another unique one."""
    return await conn.fetchval(_TELLS_APART, table.sql, list(columns)) is True
