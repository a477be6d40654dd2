"""Parquet files: what they hold, read where they lie on this machine."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dataloader.connectors.delimited import Dialect
from dataloader.connectors.delimited.columns import clean_names
from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.files import Content, FileAccess
from dataloader.connectors.files.local import LocalFile
from dataloader.connectors.files.source import FileChangedError
from dataloader.connectors.loading.seen import UNSEEN, Seen, declared
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.state import Segment
from dataloader.workers.pipelines.target import Incoming

if TYPE_CHECKING:
    from dataloader.connectors.parquet.reader import ParquetReader
    from dataloader.connectors.parquet.table import ParquetTable, Rendering


class Reader(Protocol):
    """What gives a file's records piece by piece.

    Attributes:
        place: Where the next piece begins.
        at_end: Whether there is none.
        unclosed_line: Where a record begins whose last quote is never closed, once that is known.
    """

    place: Place
    at_end: bool
    unclosed_line: int | None

    @property
    def given_bytes(self) -> int:
        """Bytes given so far."""
        ...

    def piece(self, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield whole records, up to the first that ends behind `limit_bytes`."""
        ...

    async def skip(self, limit_bytes: int) -> None:
        """Pass over about a piece."""
        ...


@dataclass(frozen=True, slots=True)
class ColumnarLayout:
    """How a Parquet file is to be read.

    Attributes:
        table: The file.
        columns: Cleaned name to what its values are, in the order of the file.
        rendering: How its rows are written.
        size: Bytes of the file.
        dialect: None: rows go in formats of the server's own.
    """

    table: ParquetTable = field(repr=False)
    columns: Mapping[str, Seen]
    rendering: Rendering = field(repr=False)
    size: int
    kind: str = "parquet"
    dialect: Dialect | None = None

    @property
    def fields(self) -> tuple[str, ...]:
        """What the file calls its columns."""
        return tuple(name for name, _ in self.table.columns)

    def incoming(self, source: str) -> Incoming:
        """Return what comes of a file, for the table."""
        return Incoming(source, self.fields, self.columns)

    def read_bytes(self, offset: int) -> int:
        """Return how much of the file the rows before number `offset` are, as if all were of one size."""
        return self.size * offset // self.table.rows if self.table.rows else self.size

    def size_of(self, segment: Segment) -> int:
        """Return about how many bytes the rows of a segment are."""
        return round(segment.size * self.table.row_bytes)

    def may_be_cut(self, content: Content) -> bool:
        """Return whether pieces of the file can be read at the same time: it lies on this machine."""
        del content
        return True

    def suit(self, columns: Sequence[str], *, exact: bool) -> None:
        """Settle how rows are written, for columns of these types; with `exact` so that each can be shown as text."""
        if not exact:
            self.rendering.suit(columns)

    @property
    def binary(self) -> bool:
        """Whether rows go in the binary format."""
        return self.rendering.encoders is not None

    @asynccontextmanager
    async def reader(self, content: Content, place: Place) -> AsyncIterator[ParquetReader]:
        """Open the rows from a place on."""
        from dataloader.connectors.parquet.reader import ParquetReader  # noqa: PLC0415 - of an extra

        async def check() -> None:
            if isinstance(content.file, LocalFile) and await content.file.look() != content.version:
                raise FileChangedError(content.name)

        reader = ParquetReader(self.table, self.rendering, start=place, check=check)
        try:
            yield reader
        finally:
            reader.close()

    async def blocks(self, content: Content, segment: Segment, *, tail: bool) -> AsyncGenerator[bytes, None]:
        """Yield a segment's rows as the server is to be sent them."""
        del tail
        async with self.reader(content, segment.begin) as reader, aclosing(reader.rows(segment.size)) as rows:
            async for block in rows:
                yield block


async def open_columnar(
    content: Content, files: FileAccess, types: Mapping[str, str], *, stack: AsyncExitStack
) -> ColumnarLayout:
    """Read what a Parquet file says of itself; one that lies elsewhere is brought here first.

    Args:
        content: The file.
        files: What it is read through.
        types: Types that are asked for, by name of the file's or the table's column.
        stack: Holds what has been brought here.

    Raises:
        PermanentError: It is damaged or no Parquet, or what reads it is not installed.
    """
    if not content.is_parquet:
        raise PermanentError(f"{content.name} is not Parquet")
    try:
        from dataloader.connectors.parquet.table import open_table  # noqa: PLC0415 - of an extra
    except ImportError:
        raise PermanentError(
            f"{content.name} is Parquet; what reads it is not installed: pip install pyarrow (the extra `parquet`)"
        ) from None
    table = await open_table(await files.on_disk(content, stack=stack), content.name, files.limits)
    names = clean_names(name for name, _ in table.columns)
    kinds = [declared(kind) if kind is not None else UNSEEN for _, kind in table.columns]
    asked = [types.get(name) or types.get(field) for name, (field, _) in zip(names, table.columns, strict=True)]
    return ColumnarLayout(
        table, dict(zip(names, kinds, strict=True)), table.rendering(asked), content.version.size or 0
    )
