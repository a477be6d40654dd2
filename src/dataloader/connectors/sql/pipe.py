"""From COPY to COPY: what one server sends is what the other is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

from dataloader.connectors.identifiers import TableName
from dataloader.connectors.loading.rows import RowError, RowProblem
from dataloader.connectors.sql.source import SqlSource, refused
from dataloader.connectors.tables import Connection

_BLOCKS_AHEAD = 8

Form = Literal["binary", "text"]


async def copy_across(
    source: SqlSource, sql: str, conn: Connection, table: TableName, columns: tuple[str, ...], *, form: Form
) -> int:
    """Copy a query's rows into a table and return how many.

    Args:
        source: Where the query runs.
        sql: The query; its columns in the order of `columns`.
        conn: Where the table is, inside the caller's transaction.
        table: Where to.
        columns: Columns of the table.
        form: `binary` where the types of both sides agree, else `text`.

    Raises:
        RowError: The table does not take a row.
        PermanentError: The source refuses the query.
        SourceError: The source went away.
    """
    blocks: asyncio.Queue[bytes | Exception | None] = asyncio.Queue(_BLOCKS_AHEAD)
    failure: Exception | None = None
    tag = ""
    async with asyncio.TaskGroup() as group:
        reader = group.create_task(_read(source, sql, blocks, form))
        try:
            tag = await conn.copy_to_table(
                table.name, schema_name=table.schema, columns=columns, source=_drained(blocks), format=form
            )
        except RowProblem as error:
            failure = RowError(source.name, error)
        except Exception as error:  # noqa: BLE001 - raised below, outside of the group
            failure = error
        reader.cancel()
    if failure is not None:
        raise failure
    return int(tag.rpartition(" ")[2])


async def _read(source: SqlSource, sql: str, blocks: asyncio.Queue[bytes | Exception | None], form: Form) -> None:
    """Put what the source sends into the queue, and last how it ended."""
    try:
        with refused(source.name):
            await source.connection.copy_from_query(sql, output=lambda data: blocks.put(bytes(data)), format=form)
    except Exception as error:  # noqa: BLE001 - raised again where it is read
        await blocks.put(error)
    else:
        await blocks.put(None)


async def _drained(blocks: asyncio.Queue[bytes | Exception | None]) -> AsyncIterator[bytes]:
    while (block := await blocks.get()) is not None:
        if isinstance(block, Exception):
            raise block
        yield block
