"""From COPY to a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dataloader.connectors.identifiers import quote_all
from dataloader.connectors.sql import SqlSource
from dataloader.connectors.sql.source import Bounds, refused
from dataloader.connectors.unloading.form import Csv, Form
from dataloader.connectors.unloading.part import Part, PartFile, Place

_BLOCK_BYTES = 1024 * 1024
_SAMPLE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Cut:
    """A part, and how large its text was before it was packed.

    Attributes:
        part: What was written.
        text_bytes: Bytes that the server sent.
    """

    part: Part
    text_bytes: int


@asynccontextmanager
async def one_moment(source: SqlSource) -> AsyncIterator[None]:
    """See the source as it is now until the block ends; whatever a query tries, nothing is written.

    After an error the connection is of no more use: the caller ends it, and does not wait for a rollback.
    """
    with refused(source.name):
        await source.connection.execute("begin isolation level repeatable read read only")
    yield
    with refused(source.name):
        await source.connection.execute("commit")


async def row_bytes(source: SqlSource, key: tuple[str, ...]) -> float:
    """Return about how many bytes a row takes as text, by the first ones in the order of a key."""
    sample = f"select * from {source.relation} q order by {quote_all(key)} limit {_SAMPLE_ROWS}"  # noqa: S608
    with refused(source.name):
        found = await source.connection.fetchval(
            f"select avg(octet_length(q::text))::float8 from ({sample}) q"  # noqa: S608 - all quoted
        )
    return max(float(found or 0), 1.0)


async def copy_part(source: SqlSource, bounds: Bounds, place: Place, form: Form, *, told: Callable[[int], None]) -> Cut:
    """Write the rows of a range into a file and return what it is; it is there for good then.

    Args:
        source: What is read.
        bounds: Which of its rows.
        place: Where to.
        form: How.
        told: Called with the bytes so far; what it raises ends the part.

    Raises:
        PermanentError: The source refuses the query, or the target the file.
        SourceError: The source or the target went away.
        UnavailableError: The disk is full.
    """
    packer = await asyncio.to_thread(form.packer, source.columns)
    file = await asyncio.to_thread(PartFile, place, packer)
    try:
        rows = await _fill(source, bounds, file, form.text, told)
        return Cut(await asyncio.to_thread(file.finish, rows), file.text_bytes)
    finally:
        await asyncio.to_thread(file.close)


async def _fill(source: SqlSource, bounds: Bounds, file: PartFile, csv: Csv, told: Callable[[int], None]) -> int:
    """Copy rows into a file, in blocks that are worth a thread's while, and return how many.

    The server sends a message per row, and the driver hands on whole messages: blocks are of whole rows.
    """
    block = bytearray()

    async def take(data: bytes) -> None:
        block.extend(data)
        if len(block) >= _BLOCK_BYTES:
            await asyncio.to_thread(file.write, bytes(block))
            block.clear()
            told(file.text_bytes)

    with refused(source.name):
        tag = await source.connection.copy_from_query(
            source.copy_sql(tuple(source.columns), bounds),
            output=take,
            format="csv",
            header=csv.header,
            delimiter=csv.delimiter,
            null=csv.null,
            encoding="utf-8",
        )
    await asyncio.to_thread(file.write, bytes(block))
    return int(tag.rpartition(" ")[2])
