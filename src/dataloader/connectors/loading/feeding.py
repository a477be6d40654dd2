"""What is sent to the server while it copies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager


@asynccontextmanager
async def fed(blocks: AsyncIterator[bytes]) -> AsyncIterator[AsyncIterator[bytes]]:
    """Lend blocks to a copy whose transaction does not outlive an error of theirs, which is raised behind the copy.

    The driver would cancel the copy when its source raises, and wait for good if the server had already refused a row.
    So to the driver the blocks end where they fail. The failure comes before what the server says.
    """
    failures: list[Exception] = []
    try:
        yield _until_failure(blocks, failures)
    finally:
        if failures:
            raise failures[0]


async def _until_failure(blocks: AsyncIterator[bytes], failures: list[Exception]) -> AsyncGenerator[bytes, None]:
    try:
        async for block in blocks:
            yield block
    except Exception as error:  # noqa: BLE001 - raised behind the copy
        failures.append(error)
