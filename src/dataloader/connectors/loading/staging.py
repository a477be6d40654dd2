"""Stage and merge: rows are copied into a temporary table, and go from there into the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident
from dataloader.connectors.loading.rows import BadRow, RowError, RowProblem, reason_of
from dataloader.connectors.tables import Connection
from dataloader.exceptions import InvalidError

STAGE = TableName("pg_temp", "dl_stage")
_ORDER = "dl_order_in_stage"
_ALL = (0, 2**62)
_ALONE, _BESIDE = "pg_advisory_xact_lock", "pg_advisory_xact_lock_shared"


@dataclass(frozen=True, slots=True)
class Move:
    """How staged rows go into a table.

    Attributes:
        table: The target.
        values: Column of the target to the SQL expression over the stage's columns.
        key: Names of the columns that tell rows apart, on which the target has a unique key; none to append.
        staged: Names of the stage's columns.
        condition: What staged rows must fulfil to be moved, as SQL.
    """

    table: TableName
    values: Mapping[str, str]
    key: tuple[str, ...]
    staged: tuple[str, ...]
    condition: str = "true"

    @property
    def sql(self) -> str:
        """The statement for the staged rows from `$1` to `$2`.

        Of rows with one key the last wins. A row that is stored as it is gets no new version. The rows go in the
        order of their keys, so that two jobs with the same rows wait and do not deadlock.
        """
        names = quote_all(tuple(self.values))
        values = ", ".join(f"{value} as {quote_ident(name)}" for name, value in self.values.items())
        wanted = f"{_ORDER} between $1 and $2 and {self.condition}"
        parsed = f"(select {values}, {_ORDER} from {STAGE.sql} where {wanted}) parsed"  # noqa: S608
        head = f"insert into {self.table.sql} as stored ({names})"
        if not self.key:
            return f"{head} select {names} from {parsed} order by {_ORDER}"  # noqa: S608
        key = quote_all(self.key)
        latest = f"(select distinct on ({key}) {names} from {parsed} order by {key}, {_ORDER} desc) latest"  # noqa: S608
        return f"{head} select {names} from {latest} on conflict ({key}) {self._on_conflict()}"  # noqa: S608

    def _on_conflict(self) -> str:
        changing = tuple(name for name in self.values if name not in self.key)
        if not changing:
            return "do nothing"
        assignments = ", ".join(f"{quote_ident(name)} = excluded.{quote_ident(name)}" for name in changing)
        old, new = quote_all(changing, prefix="stored."), quote_all(changing, prefix="excluded.")
        return f"do update set {assignments} where row({old})::record operator(pg_catalog.*<>) row({new})::record"


def straight(table: TableName, columns: tuple[str, ...], *, key: tuple[str, ...]) -> Move:
    """Return the move of columns that are staged as the target has them."""
    return Move(table, {name: quote_ident(name) for name in columns}, key, columns)


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
        f"create temporary table dl_stage ({parts}, {_ORDER} bigint generated always as identity) on commit drop"
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
        async with conn.transaction():
            await _move(conn, move, *_ALL)
    except RowProblem as error:
        row = None if before is None else await _first_bad(conn, move)
        raise RowError(source, error, line=None if row is None or before is None else before + row) from None


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
    last: int = await conn.fetchval(f"select coalesce(max({_ORDER}), 0) from {STAGE.sql}")  # noqa: S608
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
    rows = await conn.fetch(f"select {content}::text as row from {STAGE.sql} where {_ORDER} = $1", place)  # noqa: S608
    return [row["row"] for row in rows]


async def _move(conn: Connection, move: Move, low: int, high: int) -> None:
    try:
        await conn.execute(move.sql, low, high)
    except asyncpg.InvalidColumnReferenceError:
        raise InvalidError(f"{move.table} has no unique key on ({', '.join(move.key)})") from None
