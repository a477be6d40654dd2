"""Segments of one file that are loaded at the same time, a wave of them between two safe points."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from dataloader.workers.pipelines.load_file.columnar import Reader
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
