"""One item drawn ahead: what is slow runs in a thread while the one before is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """Draws from an iterator in a thread of its own, one item before it is asked for.

    Args:
        items: Only this object draws from it.
    """

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="parquet")
        self._drawn: Future[T | None] | None = None

    async def next(self) -> T | None:
        """Return the next item, None at the end; what the iterator raises is raised in its place."""
        item = await asyncio.wrap_future(self._drawn or self._draw())
        self._drawn = None if item is None else self._draw()
        return item

    def _draw(self) -> Future[T | None]:
        return self._thread.submit(next, self._items, None)

    def close(self) -> None:
        """Draw no more; the item that is being drawn is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)
