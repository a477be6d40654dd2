"""What is expected of a table once it is loaded, asked of the table itself before the load is accepted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident
from dataloader.connectors.loading.shape import describe_table
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError

Bound = str | int | float | None


@dataclass(frozen=True, slots=True)
class Expectations:
    """What must hold of the rows of a table.

    Attributes:
        max_null_fraction: Column to the greatest part of rows that may lack a value, from 0 to 1.
        unique: Columns, or groups of them, no two rows may share the values of; missing values are not compared.
        accepted_range: Column to the least and the greatest value, None for no bound.
        freshness: Column of days or instants to the greatest age of its newest value, in seconds.
    """

    max_null_fraction: Mapping[str, float] = field(default_factory=dict)
    unique: tuple[tuple[str, ...], ...] = ()
    accepted_range: Mapping[str, tuple[Bound, Bound]] = field(default_factory=dict)
    freshness: Mapping[str, float] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """Every column they speak of."""
        keys = {name for names in self.unique for name in names}
        return keys | {*self.max_null_fraction, *self.accepted_range, *self.freshness}


async def known_types(conn: Connection, table: TableName, expected: Expectations) -> Mapping[str, str]:
    """Return the types of a table's columns, once every column that is spoken of is among them.

    Raises:
        PermanentError: An expectation speaks of a column that does not exist.
    """
    shape = await describe_table(conn, table)
    types = {} if shape is None else shape.columns
    unknown = sorted(expected.columns - types.keys())
    if unknown:
        raise PermanentError(f"expect names {', '.join(unknown)}, which is not among the columns: {', '.join(types)}")
    return types


async def disappointments(conn: Connection, table: TableName, expected: Expectations) -> list[str]:
    """Return what does not hold, a sentence each.

    Raises:
        PermanentError: An expectation speaks of a column that does not exist, or cannot be asked of it.
    """
    types = await known_types(conn, table, expected)
    try:
        return [said async for said in _asked(conn, table, expected, types)]
    except (asyncpg.DataError, asyncpg.SyntaxOrAccessError) as error:
        raise PermanentError(f"expect cannot be asked of {table}: {error.args[0]}") from None


async def _asked(
    conn: Connection, table: TableName, expected: Expectations, types: Mapping[str, str]
) -> AsyncIterator[str]:
    for name, most in expected.max_null_fraction.items():
        found = await _value(conn, f"avg(({quote_ident(name)} is null)::int)::float8", table)
        if isinstance(found, float) and found > most:
            yield f"{name} is missing in {found:.2%} of the rows, at most {most:.2%} are expected"
    for names in expected.unique:
        values = await _doubled(conn, table, names)
        if values is not None:
            yield f"{', '.join(names)} is expected to be unique, {values} is there more than once"
    for name, (least, greatest) in expected.accepted_range.items():
        count, example = await _outside(conn, table, name, _condition(name, types[name], least, greatest))
        if count:
            yield f"{name} is outside of {_said(least)} to {_said(greatest)} in {count:,} rows, {example} for example"
    for name, most_s in expected.freshness.items():
        age = await _value(conn, f"extract(epoch from now() - max({quote_ident(name)}::timestamptz))::float8", table)
        if not isinstance(age, float) or age > most_s:
            shown = "nothing" if not isinstance(age, float) else f"{age:,.0f} s old"
            yield f"the newest {name} is {shown}, at most {most_s:,.0f} s are expected"


async def _value(conn: Connection, expression: str, table: TableName) -> object:
    return await conn.fetchval(f"select {expression} from {table.sql}")  # noqa: S608 - quoted


async def _doubled(conn: Connection, table: TableName, names: tuple[str, ...]) -> str | None:
    key = quote_all(names)
    present = " and ".join(f"{quote_ident(name)} is not null" for name in names)
    value: str | None = await conn.fetchval(
        f"select row({key})::text from {table.sql} where {present} group by {key} having count(*) > 1 limit 1"  # noqa: S608
    )
    return value


async def _outside(conn: Connection, table: TableName, name: str, condition: str) -> tuple[int, str]:
    sql = f"select count(*), min({quote_ident(name)}::text) from {table.sql} where {condition}"  # noqa: S608 - quoted
    row = await conn.fetchrow(sql)
    return (0, "") if row is None else (row[0], str(row[1]))


def _condition(name: str, kind: str, least: Bound, greatest: Bound) -> str:
    """Return the condition of rows out of a range, its bounds read as the column's type reads them."""
    column = quote_ident(name)
    parts = [
        f"{column} {sign} {_literal(bound)}::{kind}"
        for sign, bound in (("<", least), (">", greatest))
        if bound is not None
    ]
    return " or ".join(parts) or "false"


def _literal(bound: Bound) -> str:
    return "'" + str(bound).replace("'", "''") + "'"


def _said(bound: Bound) -> str:
    return "any" if bound is None else str(bound)
