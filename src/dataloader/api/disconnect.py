"""Notices that a client has gone away while its request waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import Request


@contextmanager
def until_disconnected(request: Request) -> Iterator[asyncio.Future[None]]:
    """Return a future that is done when the client has gone; the request's body must have been read."""
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        yield gone
    finally:
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
