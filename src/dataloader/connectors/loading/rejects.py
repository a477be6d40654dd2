"""The table beside a target that keeps the rows it did not take."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from dataloader.connectors.identifiers import MAX_IDENTIFIER_BYTES, TableName
from dataloader.connectors.loading.rows import BadRow
from dataloader.connectors.loading.shape import describe_table
from dataloader.connectors.tables import Connection, copy_rows, ensure_table
from dataloader.exceptions import PermanentError

COLUMNS = {
    "job_id": "uuid",
    "source": "text",
    "line": "bigint",
    "row": "text",
    "reason": "text",
    "rejected_at": "timestamp with time zone",
}
_SUFFIX = "_rejects"


def rejects_table(table: TableName) -> TableName:
    """Return the name of a table's rejects."""
    name = table.name.encode()[: MAX_IDENTIFIER_BYTES - len(_SUFFIX)].decode(errors="ignore")
    return TableName(table.schema, f"{name}{_SUFFIX}")


async def _check(conn: Connection, rejects: TableName) -> None:
    """Accept a table that was there before.

    Raises:
        PermanentError: It is another one than rejects are kept in.
    """
    shape = await describe_table(conn, rejects)
    columns, texts = (shape.columns, shape.texts) if shape else ({}, frozenset())
    lacking = [name for name in COLUMNS if name not in columns]
    if lacking:
        raise PermanentError(
            f"{rejects}, where rejected rows go, has no column {', '.join(lacking)}; rename that table to reject rows"
        )
    unfit = [
        f"{name} is {columns[name]} and must be {kind}"
        for name, kind in COLUMNS.items()
        if kind != ("text" if name in texts else columns[name])
    ]
    if unfit:
        raise PermanentError(
            f"{rejects}, where rejected rows go, is another table: {', '.join(unfit)}; rename it to reject rows"
        )


async def store_rejects(conn: Connection, table: TableName, rows: Sequence[BadRow], *, job_id: UUID) -> None:
    """Keep rows that were not taken, in the transaction of those that were."""
    if not rows:
        return
    rejects = rejects_table(table)
    if not await ensure_table(conn, rejects, COLUMNS):
        await _check(conn, rejects)
    now = await conn.fetchval("select clock_timestamp()")
    records = [(job_id, bad.source, bad.line, bad.row, bad.reason, now) for bad in rows]
    await copy_rows(conn, rejects, records, columns=tuple(COLUMNS))
