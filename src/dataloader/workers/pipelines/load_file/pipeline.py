"""The pipeline `load.file`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

from dataloader.connectors.delimited import RecordReader
from dataloader.connectors.files import Content, FileAccess, FileVersion, SourceFile
from dataloader.connectors.identifiers import parse_target
from dataloader.connectors.loading.rejects import rejects_table, store_rejects
from dataloader.connectors.loading.rows import excerpt
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.formats import Layout, find_layout
from dataloader.workers.pipelines.load_file.state import LoadState
from dataloader.workers.pipelines.load_file.writing import Writer, Written
from dataloader.workers.pipelines.pace import Pace, Span
from dataloader.workers.pipelines.registry import register
from dataloader.workers.pipelines.target import Binding, Target

_KIB, _MIB = 1024, 1024 * 1024
_STREAMED = Span(first=4 * _MIB, least=256 * _KIB, most=256 * _MIB)
_HELD = Span(first=4 * _MIB, least=256 * _KIB, most=8 * _MIB)
"""Bytes of chunks that are held in memory, to look for rows in them."""


@register("load.file", queue="load.file")
async def load_file(args: LoadFileArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load files (CSV or JSON Lines, packed or not, local or behind HTTP) into a table, each row exactly once."""
    async with AsyncExitStack() as stack:
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
        }


async def _find(args: LoadFileArgs, access: FileAccess, stack: AsyncExitStack) -> list[SourceFile]:
    found = [file for source in args.sources for file in await access.find(source, member=args.member, stack=stack)]
    names = [file.name for file in found]
    if len(set(names)) < len(names):
        raise PermanentError("a file is named twice among the sources")
    return found


@dataclass
class Opened:
    """A file that is being loaded.

    Attributes:
        binding: Where its fields go, once its first chunk has found out.
    """

    content: Content
    layout: Layout
    reader: RecordReader
    binding: Binding | None = None


class Load:
    """One run of a load.

    Args:
        args: What to load.
        ctx: The job.
        state: Where to go on.
    """

    def __init__(self, args: LoadFileArgs, ctx: JobContext, state: LoadState) -> None:
        self._args = args
        self._ctx = ctx
        self.state = state
        self._target = Target(args.wish, parse_target(args.table, schema=ctx.settings.pg_schema), ctx.job_id)
        self._pace = Pace(_STREAMED if args.on_error == "fail" else _HELD, fixed=args.chunk_bytes)
        self._total = state.total_bytes

    async def file(self, file: SourceFile) -> AsyncGenerator[None, None]:
        """Load one file from where the state says, chunk by chunk, each committed with the state behind it."""
        content = await self._ctx.files.open(file, encoding=self._args.encoding)
        self._check_version(content.version, file.name)
        if not content.seekable:
            self._total = None
        layout = find_layout(content, self._args)
        async with layout.reader(content, self.state.place) as reader:
            opened = Opened(content, layout, reader)
            while not reader.at_end:
                await self._chunk(opened)
                yield

    def _check_version(self, version: FileVersion, name: str) -> None:
        LoadState.of([(name, version)], {"files": [self.state.files[self.state.file]]})

    async def _chunk(self, opened: Opened) -> None:
        """Load one chunk in one transaction."""
        began_s, before = time.monotonic(), opened.reader.place
        async with self._ctx.transaction() as tx:
            if opened.binding is None:
                opened.binding = await self._target.bind(
                    tx,
                    opened.layout.incoming(opened.content.name),
                    begun=self.state.rows > 0,
                    advice="trigger a new job",
                )
            written = await self._write(tx, opened)
            state = self.state.after(opened.reader.place, rows=written.rows, rejected=len(written.rejects))
            await self._keep_rejects(tx, state, written)
            if opened.reader.at_end:
                state = state.next_file()
            if state.finished:
                await self._finish(tx, state)
            tx.rows += written.rows
            tx.checkpoint(
                state.as_json(),
                done=state.bytes + state.offset,
                total=self._total,
                unit="bytes",
                message=_told(state),
            )
        self.state = state
        self._pace.took(opened.reader.place.offset - before.offset, time.monotonic() - began_s)

    async def _write(self, tx: ChunkTransaction, opened: Opened) -> Written:
        assert opened.binding is not None  # noqa: S101 - set by the chunk
        writer = Writer(self._args, opened.layout, opened.binding, opened.content.name, opened.content.encoding.server)
        before = opened.reader.place.line - 1
        async with aclosing(opened.reader.piece(self._pace.size)) as piece:
            return await writer.write(tx.connection, piece, before=before)

    async def _keep_rejects(self, tx: ChunkTransaction, state: LoadState, written: Written) -> None:
        """Store the rows that were not taken.

        Raises:
            PermanentError: There are too many; this chunk and its rejects are rolled back.
        """
        if state.rejected > self._args.max_rejects:
            first = written.rejects[0]
            where = f"{first.source}, line {first.line}" if first.line else first.source
            raise PermanentError(
                f"{state.rejected} rows were rejected, more than max_rejects={self._args.max_rejects}; the first of "
                f"this chunk: {where}: {first.reason}: {excerpt(first.row)}"
            )
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
        await self._target.finish(tx.connection)


def _told(state: LoadState) -> str:
    return f"{state.rows:,} rows" + (f", {state.rejected:,} rejected" if state.rejected else "")
