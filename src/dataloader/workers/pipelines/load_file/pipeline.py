"""The pipeline `load.file`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial

from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.files import Content, FileAccess, FileVersion, SourceFile
from dataloader.connectors.identifiers import parse_target
from dataloader.connectors.loading.rejects import rejects_table, store_rejects
from dataloader.connectors.loading.rows import RowError
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.expect import check, check_names
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.columnar import ColumnarLayout, Reader, open_columnar
from dataloader.workers.pipelines.load_file.formats import Layout, find_layout
from dataloader.workers.pipelines.load_file.state import LoadState, Segment
from dataloader.workers.pipelines.load_file.waves import at_once, cut
from dataloader.workers.pipelines.load_file.writing import TooManyRejectsError, Writer, Written
from dataloader.workers.pipelines.pace import Pace, Span
from dataloader.workers.pipelines.refusals import refusals
from dataloader.workers.pipelines.registry import register
from dataloader.workers.pipelines.target import Binding, Target

_KIB, _MIB = 1024, 1024 * 1024
_STREAMED = Span(first=4 * _MIB, least=256 * _KIB, most=256 * _MIB)
_HELD = Span(first=4 * _MIB, least=256 * _KIB, most=8 * _MIB)
"""Bytes of chunks that are held in memory, to look for rows in them."""

_UNCLOSED = "unterminated CSV quoted field"


@register("load.file", queue="load.file")
async def load_file(args: LoadFileArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load files (CSV, JSON Lines, Parquet; local, behind HTTP, in buckets) into a table, each row exactly once."""
    async with AsyncExitStack() as stack:
        stack.enter_context(refusals())
        files = await _find(args, ctx.files, stack)
        versions = [(file.name, await file.look()) for file in files]
        load = Load(args, ctx, LoadState.of(versions, ctx.checkpoint))
        while not load.state.finished:
            async with aclosing(load.file(files[load.state.file])) as chunks:
                async for _ in chunks:
                    yield
        ctx.result = {
            "rows": load.state.rows,
            "rejected": load.state.rejected,
            "files": len(files),
            "bytes": load.state.bytes,
            **({"warnings": load.warnings} if load.warnings else {}),
        }


async def _find(args: LoadFileArgs, access: FileAccess, stack: AsyncExitStack) -> list[SourceFile]:
    found = [file for source in args.sources for file in await access.find(source, member=args.member, stack=stack)]
    if len(set(found)) < len(found):
        raise PermanentError("a file is named twice among the sources")
    return found


@dataclass
class Opened:
    """A file that is being loaded.

    Attributes:
        binding: Where its fields go, once its first chunk has found out.
    """

    content: Content
    layout: Layout | ColumnarLayout
    binding: Binding | None = None


class Load:
    """One run of a load.

    Args:
        args: What to load.
        ctx: The job.
        state: Where to go on.

    Attributes:
        warnings: What is not as expected, and only warns.
    """

    def __init__(self, args: LoadFileArgs, ctx: JobContext, state: LoadState) -> None:
        self._args = args
        self._ctx = ctx
        self.state = state
        self._target = Target(args.wish, parse_target(args.table, schema=ctx.settings.pg_schema), ctx.job_id)
        span = _STREAMED if args.on_error == "fail" else _HELD
        self._pace = Pace(span, fixed=None if args.chunk_bytes is None else min(args.chunk_bytes, span.most))
        self._total = state.total_bytes
        self.warnings: list[str] = []

    async def file(self, file: SourceFile) -> AsyncGenerator[None, None]:
        """Load one file from where the state says, chunk by chunk, each committed with the state behind it."""
        content = await self._ctx.files.open(file, encoding=self._args.encoding)
        self._check_version(content.version, file.name)
        async with AsyncExitStack() as stack:
            opened = Opened(content, await self._layout(content, stack))
            async with aclosing(self._chunks(opened)) as chunks:
                async for _ in chunks:
                    yield

    async def _layout(self, content: Content, stack: AsyncExitStack) -> Layout | ColumnarLayout:
        wanted = self._args.format
        if wanted == "parquet" or (wanted == "auto" and content.is_parquet):
            return await open_columnar(content, self._ctx.files, self._args.columns, stack=stack)
        if not content.seekable:
            self._total = None
        return find_layout(content, self._args)

    async def _chunks(self, opened: Opened) -> AsyncGenerator[None, None]:
        """Load an opened file from where the state says."""
        content, layout = opened.content, opened.layout
        while holes := self.state.holes():
            await self._wave(opened, holes)
            yield
        async with layout.reader(content, self.state.place) as reader:
            while not reader.at_end:
                segments: list[Segment] = []
                if self._cuts(opened):
                    segments = await cut(reader, count=self._args.parallel, size=self._pace.size)
                try:
                    if segments:
                        await self._wave(opened, segments, ending=reader.at_end)
                    else:
                        await self._chunk(opened, reader)
                except RowError as error:
                    raise _told_where(error, content.name, reader.unclosed_line) from None
                yield

    def _cuts(self, opened: Opened) -> bool:
        """Return whether the next pieces are to be loaded at the same time."""
        several = self._args.parallel > 1 and opened.binding is not None
        return several and opened.layout.may_be_cut(opened.content)

    def _check_version(self, version: FileVersion, name: str) -> None:
        LoadState.of([(name, version)], {"files": [self.state.files[self.state.file]]})

    async def _chunk(self, opened: Opened, reader: Reader) -> None:
        """Load the next chunk in one transaction."""
        began_s, before, given_before = time.monotonic(), reader.place, reader.given_bytes
        async with self._ctx.transaction() as tx:
            written = await self._write(tx, opened, reader.piece(self._pace.size), before)
            given_bytes = reader.given_bytes - given_before
            self._record(tx, opened.content.name, Segment(before, reader.place), written, size_bytes=given_bytes)
            state = self.state.after(reader.place, rows=written.rows, rejected=len(written.rejects))
            self.state = await self._settle(tx, opened, state, written, ended=reader.at_end)
        self._pace.took(given_bytes, time.monotonic() - began_s)

    async def _wave(self, opened: Opened, segments: Sequence[Segment], *, ending: bool = False) -> None:
        """Load segments at the same time, each in a transaction of its own; the file ends with the last if `ending`."""
        began_s, turn = time.monotonic(), asyncio.Lock()
        end = max(segment.end for segment in segments)

        async def load(segment: Segment) -> None:
            async with self._ctx.transaction_beside(turn) as tx:
                tail = ending and segment.end == end
                blocks = opened.layout.blocks(opened.content, segment, tail=tail)
                written = await self._write(tx, opened, blocks, segment.begin)
                self._record(tx, opened.content.name, segment, written, size_bytes=opened.layout.size_of(segment))
                tx.in_turn = partial(settle, tx, segment, written)

        async def settle(tx: ChunkTransaction, segment: Segment, written: Written) -> Callable[[], None]:
            state = self.state.after_segment(segment, rows=written.rows, rejected=len(written.rejects))
            ended = ending and not state.ahead and state.place == end
            return partial(self._enter, await self._settle(tx, opened, state, written, ended=ended))

        if opened.binding is None:
            await load(segments[0])
            segments = segments[1:]
        await at_once(segments, load)
        if segments:
            self._pace.took(max(map(opened.layout.size_of, segments)), time.monotonic() - began_s)

    def _enter(self, state: LoadState) -> None:
        self.state = state

    async def _settle(
        self, tx: ChunkTransaction, opened: Opened, state: LoadState, written: Written, *, ended: bool
    ) -> LoadState:
        """Write what goes with a chunk's rows; return the state to commit with them."""
        await self._keep_rejects(tx, state, written)
        if ended:
            state = state.next_file(read_bytes=opened.layout.read_bytes(state.offset))
        if state.finished:
            await self._finish(tx, state)
        tx.rows += written.rows
        read_bytes = opened.layout.read_bytes
        ahead = sum(read_bytes(segment.end.offset) - read_bytes(segment.begin.offset) for segment in state.ahead)
        done = state.bytes + read_bytes(state.offset) + ahead
        tx.checkpoint(state.as_json(), done=done, total=self._total, unit="bytes", message=_told(state))
        return state

    async def _write(
        self, tx: ChunkTransaction, opened: Opened, blocks: AsyncGenerator[bytes, None], begin: Place
    ) -> Written:
        binding = opened.binding
        if binding is None:
            incoming = opened.layout.incoming(opened.content.name)
            binding = await self._target.bind(tx, incoming, begun=self.state.rows > 0, advice="trigger a new job")
            if not self._args.wish.evolve or self.state.is_in_last_file:
                await check_names(self._args.expect, tx, self._target.into)
            opened.binding = binding
            opened.layout.suit(tuple(binding.columns.values()), exact=self._args.on_error == "reject")
        writer = Writer(self._args, opened.layout, binding, opened.content.name, opened.content.encoding.server)
        async with aclosing(blocks):
            rejectable = self._args.max_rejects - self.state.rejected
            return await writer.write(tx.connection, blocks, before=begin.line - 1, rejectable=rejectable)

    def _record(
        self, tx: ChunkTransaction, source: str, segment: Segment, written: Written, *, size_bytes: int
    ) -> None:
        tx.record(
            source=source,
            target=self._args.table,
            range={"begin": segment.begin.offset, "end": segment.end.offset, "line": segment.begin.line},
            rows_in=written.rows + len(written.rejects),
            rejected=len(written.rejects),
            size_bytes=size_bytes,
        )

    async def _keep_rejects(self, tx: ChunkTransaction, state: LoadState, written: Written) -> None:
        """Store the rows that were not taken.

        Raises:
            TooManyRejectsError: There are too many, of several pieces together; this one is rolled back.
        """
        if state.rejected > self._args.max_rejects:
            raise TooManyRejectsError(written.rejects[0], most=self._args.max_rejects)
        await store_rejects(tx.connection, self._target.table, written.rejects, job_id=self._ctx.job_id)

    async def _finish(self, tx: ChunkTransaction, state: LoadState) -> None:
        """Accept the load as a whole, in the transaction of its last rows.

        Raises:
            PermanentError: Fewer rows came than are expected.
        """
        if state.rows < self._args.min_rows:
            rejected = f"; {state.rejected} rejected ones are in {rejects_table(self._target.table)}"
            raise PermanentError(
                f"{state.rows} rows came, at least {self._args.min_rows} are expected (min_rows)"
                f"{rejected if state.rejected else ''}"
            )
        self.warnings = await check(self._args.expect, tx, self._target.into)
        await self._target.finish(tx.connection, lambda text: self._ctx.progress(message=text))


def _told_where(error: RowError, name: str, unclosed_line: int | None) -> PermanentError:
    """Return the error of a row; of a quote that is never closed the server knows only where the file ends."""
    if unclosed_line is None or _UNCLOSED not in error.message:
        return error
    return PermanentError(
        f"{name}, line {unclosed_line}: a quote is opened in this record and never closed; all that follows is in it"
    )


def _told(state: LoadState) -> str:
    return f"{state.rows:,} rows" + (f", {state.rejected:,} rejected" if state.rejected else "")
