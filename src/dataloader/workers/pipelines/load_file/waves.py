"""Segments of one file that are loaded at the same time, a wave of them between two safe points."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from dataloader.connectors.delimited import RecordReader
from dataloader.connectors.files import Content
from dataloader.workers.pipelines.load_file.columnar import ColumnarLayout, Reader
from dataloader.workers.pipelines.load_file.formats import Layout
from dataloader.workers.pipelines.load_file.state import Segment


async def cut(reader: Reader, *, count: int, size: int) -> list[Segment]:
    """Find the next segments without loading them; the reader is behind the last of them afterwards."""
    segments: list[Segment] = []
    while len(segments) < count and not reader.at_end:
        begin = reader.place
        await reader.skip(size)
        if reader.place != begin:
            segments.append(Segment(begin, reader.place))
    return segments


def blocks_of(
    content: Content, layout: Layout | ColumnarLayout, segment: Segment, *, tail: bool = False
) -> AsyncGenerator[bytes, None]:
    """Return a segment's records as the server is to be sent them; with `tail` it is the file's last."""
    if isinstance(layout, ColumnarLayout):
        return layout.blocks(content, segment)
    return _records(content, layout, segment, tail=tail)


async def _records(content: Content, layout: Layout, segment: Segment, *, tail: bool) -> AsyncGenerator[bytes, None]:
    async with aclosing(_limited(content, segment)) as stored:
        reader = RecordReader(stored, layout.dialect, start=segment.begin, name=content.name, tail=tail)
        async with aclosing(reader.piece(segment.size)) as piece:
            async for block in piece:
                yield block


async def _limited(content: Content, segment: Segment) -> AsyncGenerator[bytes, None]:
    left = segment.size
    async with aclosing(content.blocks(segment.begin.offset)) as blocks:
        async for block in blocks:
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return


async def at_once(segments: Sequence[Segment], load: Callable[[Segment], Awaitable[None]]) -> None:
    """Load all segments at the same time; the first that fails ends the others, and its error is raised."""
    failure: BaseException | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for segment in segments:
                group.create_task(_awaited(load(segment)))
    except BaseExceptionGroup as errors:
        failure = errors
    while isinstance(failure, BaseExceptionGroup):
        failure = failure.exceptions[0]
    if failure is not None:
        raise failure


async def _awaited(work: Awaitable[None]) -> None:
    await work
