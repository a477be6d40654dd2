"""Lines of the standard input on an event loop; only the standard library, for the peers' Python."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator


async def read_lines() -> AsyncIterator[bytes]:
    """Yield lines as they come, until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line
