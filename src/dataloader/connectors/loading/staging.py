"""Stage and merge: rows are copied into a temporary table, and go from there into the target."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import asyncpg

from dataloader.connectors.identifiers import quote_all, quote_ident
from dataloader.connectors.loading.moves import ORDER, STAGE, Move
from dataloader.connectors.loading.rows import BadRow, RowError, RowProblem, reason_of
from dataloader.connectors.tables import Connection
from dataloader.exceptions import InvalidError

_ALL = (0, 2**62)
_SAMPLE_ROWS = 100
WORTH_ROWS = 1_000
"""Fewest staged rows for which it pays to ask whether they are new."""

_LEFT_TO_ON_CONFLICT = (
    asyncpg.UniqueViolationError,
    asyncpg.ExclusionViolationError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.FeatureNotSupportedError,
)
"""What may only tell that rows cannot be moved as new ones: `on conflict` takes them, or has the better words.

A key's type may have no `=` in reach, where a unique index does without: that of an extension in a schema of its own.
"""

_AT_LEAST = f"select count(*) >= $1 from (select from {STAGE.sql} limit $1) staged"  # noqa: S608 - a constant
_ALONE, _BESIDE = "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"


async def create_stage(conn: Connection, columns: Mapping[str, str], *, key: tuple[str, ...] = ()) -> None:
    """Create the stage of this transaction; it is gone at its end.

    Args:
        conn: Inside the caller's transaction.
        columns: Name to type, with a check if it needs one.
        key: Columns that no row may lack: a row without them is like no other, and would be taken for one.
    """
    parts = ", ".join(
        f"{quote_ident(name)} {kind}{' not null' if name in key else ''}" for name, kind in columns.items()
    )
    await conn.execute(
        f"create temporary table dl_stage ({parts}, {ORDER} bigint generated always as identity) on commit drop"
    )


async def move_stage(conn: Connection, move: Move, *, source: str, before: int | None = None) -> None:
    """Move all staged rows into the target.

    Args:
        conn: Inside the caller's transaction.
        move: How.
        source: Where they come from, for messages.
        before: Lines of the source before the first row, if each row is a line.

    Raises:
        RowError: A row breaks one of the target's rules; the transaction can only be rolled back.
        InvalidError: The target has no unique key on the columns.
    """
    await _wait_for_others(conn, move, _BESIDE)
    try:
        if not await _moved_as_new(conn, move):
            async with conn.transaction():
                await _move(conn, move, *_ALL)
    except RowProblem as error:
        row = None if before is None else await _first_bad(conn, move)
        raise RowError(source, error, line=None if row is None or before is None else before + row) from None


async def _moved_as_new(conn: Connection, move: Move) -> bool:
    """Move all staged rows if most of their keys seem to be new; return whether that was so, and succeeded."""
    if not move.key or not await conn.fetchval(_AT_LEAST, WORTH_ROWS):
        return False
    try:
        async with conn.transaction():
            plan = await conn.fetchval(f"explain (format json) {move.parted_sql}", *_ALL)
            if not _goes_by_index(json.loads(plan)[0]["Plan"]):
                return False
            if await conn.fetchval(move.some_known_sql(_SAMPLE_ROWS)):
                return False
            await conn.execute(move.parted_sql, *_ALL)
    except _LEFT_TO_ON_CONFLICT:
        return False
    return True


def _goes_by_index(plan: Mapping[str, Any]) -> bool:
    """Return whether the plan looks each row up in one index by its whole key.

    Without an index it would read the whole target for each row, with one on a part of the key all rows that share
    the part; and of a partitioned target every partition is asked.
    """
    lookup = [scan for node in _nodes(plan) if node.get("Parent Relationship") == "SubPlan" for scan in _nodes(node)]
    leaves = [node for node in lookup if "Plans" not in node]
    return len(leaves) == 1 and "Index Cond" in leaves[0] and not any("Filter" in node for node in lookup)


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", ()):
        yield from _nodes(part)


async def _first_bad(conn: Connection, move: Move) -> int | None:
    """Return the number of the first staged row that does not fit, None if each fits without the others."""
    low, high = 1, await _last(conn)
    while low < high:
        middle = (low + high) // 2
        if await _fits(conn, move, low, middle):
            low = middle + 1
        else:
            high = middle
    return low if high and not await _fits(conn, move, low, low) else None


async def _fits(conn: Connection, move: Move, low: int, high: int) -> bool:
    """Return whether rows fit; they are not kept."""
    trial = conn.transaction()
    await trial.start()
    try:
        await _move(conn, move, low, high)
    except RowProblem:
        return False
    finally:
        await trial.rollback()
    return True


async def _last(conn: Connection) -> int:
    last: int = await conn.fetchval(f"select coalesce(max({ORDER}), 0) from {STAGE.sql}")  # noqa: S608
    return last


async def move_good_rows(
    conn: Connection, move: Move, *, source: str, reject: Callable[[BadRow], None], before: int | None = None
) -> int:
    """Move the staged rows that fit, hand over the others, and return how many were handed over.

    They go in halves, and so not in the order of their keys: no other job merges into the table meanwhile.
    """
    await _wait_for_others(conn, move, _ALONE)
    todo, count = [(1, await _last(conn))], 0
    while todo:
        low, high = todo.pop()
        try:
            async with conn.transaction():
                await _move(conn, move, low, high)
        except RowProblem as error:
            if low < high:
                middle = (low + high) // 2
                todo += [(middle + 1, high), (low, middle)]
                continue
            for row in await _staged(conn, move, low):
                reject(BadRow(source, None if before is None else before + low, row, reason_of(error)))
                count += 1
    return count


async def _wait_for_others(conn: Connection, move: Move, lock: str) -> None:
    """Wait until merges into the table that would deadlock with this one have committed."""
    if move.key:
        await conn.execute(f"select {lock}(hashtextextended($1, 0))", f"dataloader.merge:{move.table.sql}")


async def _staged(conn: Connection, move: Move, place: int) -> list[str]:
    """Return a staged row as text."""
    content = f"row({quote_all(move.staged)})" if len(move.staged) > 1 else quote_all(move.staged)
    rows = await conn.fetch(f"select {content}::text as row from {STAGE.sql} where {ORDER} = $1", place)  # noqa: S608
    return [row["row"] for row in rows]


async def _move(conn: Connection, move: Move, low: int, high: int) -> None:
    try:
        await conn.execute(move.sql, low, high)
    except asyncpg.InvalidColumnReferenceError:
        raise InvalidError(f"{move.table} has no unique key on ({', '.join(move.key)})") from None
