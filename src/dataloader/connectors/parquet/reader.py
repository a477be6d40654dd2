"""A Parquet file's rows, row group by row group, from any row on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from math import ceil

from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.parquet.ahead import Ahead
from dataloader.connectors.parquet.table import ParquetTable, Rendering, named
from dataloader.connectors.parquet.text import Lines
from dataloader.exceptions import PermanentError

_BLOCK_BYTES = 1024 * 1024
"""At most so many are handed on at a time, so that the loop is not held."""

Check = Callable[[], Awaitable[None]]
"""Raises if the file is no longer the one that was opened."""


class ParquetReader:
    """Reads a table in pieces of whole rows; offsets and lines of places count rows.

    Args:
        table: The file.
        rendering: How rows are written, once the first is read.
        start: Where to begin.
        check: Called behind every piece, and when the file seems damaged.
    """

    def __init__(self, table: ParquetTable, rendering: Rendering, *, start: Place, check: Check) -> None:
        self._table = table
        self._rendering = rendering
        self._ahead: Ahead[Lines] | None = None
        self._rest: Lines | None = None
        self._check = check
        self.place = start
        self.at_end = False
        self.unclosed_line: int | None = None
        self.given_bytes = 0

    async def piece(self, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield rows in a format of COPY, up to the first that ends behind `limit_bytes`.

        Afterwards `place` says where the next piece begins, and `at_end` whether there is one.

        Raises:
            PermanentError: The file is damaged, or has changed.
        """
        read = 0
        while read < limit_bytes and (lines := await self._next()) is not None:
            block, count = lines.take(min(limit_bytes - read, _BLOCK_BYTES))
            self._move(count)
            self.given_bytes += len(block)
            read += len(block)
            yield block
        await self._check()
        self.at_end = self.place.offset >= self._table.rows

    async def rows(self, count: int) -> AsyncGenerator[bytes, None]:
        """Yield so many rows.

        Raises:
            PermanentError: The file is damaged, or has changed.
        """
        end = self.place.offset + count
        while self.place.offset < end and (lines := await self._next()) is not None:
            block, taken = lines.take(_BLOCK_BYTES, most=end - self.place.offset)
            self._move(taken)
            yield block
        await self._check()

    async def skip(self, limit_bytes: int) -> None:
        """Pass over as many rows as fill a piece, up to twice as many if a row group ends there: they are not read."""
        self.close()
        count = max(ceil(limit_bytes / self._table.row_bytes), 1)
        more = self._table.end_of_group(self.place.offset + count - 1) - self.place.offset
        self._move(more if more <= 2 * count else count)
        self.at_end = self.place.offset >= self._table.rows

    def close(self) -> None:
        """Read no further ahead."""
        if self._ahead is not None:
            self._ahead.close()
        self._ahead = self._rest = None

    def _move(self, rows: int) -> None:
        self.place = Place(self.place.offset + rows, self.place.line + rows)

    async def _next(self) -> Lines | None:
        """Return rows that are left; None at the end."""
        if self._rest is not None and self._rest.left:
            return self._rest
        if self.place.offset >= self._table.rows:
            return None
        if self._ahead is None:
            self._ahead = Ahead(_rendered(self._table, self.place.offset, self._rendering))
        try:
            self._rest = await self._ahead.next()
        except PermanentError:
            await self._check()
            raise
        if self._rest is None:
            raise PermanentError(
                f"{self._table.name} is damaged: it ends at row {self.place.offset} of {self._table.rows}"
            )
        return self._rest


def _rendered(table: ParquetTable, start: int, rendering: Rendering) -> Iterator[Lines]:
    """Yield the rows from number `start` on.

    Raises:
        PermanentError: The file is damaged.
    """
    with named(table.name):
        for batch in table.batches(start):
            yield rendering.lines(batch.columns)
