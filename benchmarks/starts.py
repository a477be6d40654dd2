"""Jobs that say when they start, over a socket on this machine: no queue is asked for it, so none is measured with it.

Only the standard library is used: the peers' Python imports this too.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

VARIABLE = "DL_BENCH_STARTS"
"""Names the socket in the environment of the measured processes."""
_START_TIMEOUT_S = 30.0
_MESSAGE = struct.Struct("q")


class Starts(asyncio.DatagramProtocol):
    """Receives what started jobs report.

    Args:
        path: Of the socket.

    Attributes:
        folder: Of the socket; others may use it as long.
        environment: Leads jobs here.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self.environment = {VARIABLE: str(path)}
        self._arrived: asyncio.Queue[int] = asyncio.Queue()

    def datagram_received(self, data: bytes, _address: object) -> None:
        """Take a report."""
        self._arrived.put_nowait(_MESSAGE.unpack(data)[0])

    async def next_ms(self) -> float:
        """Wait for the next report; return the milliseconds from its call to its start."""
        async with asyncio.timeout(_START_TIMEOUT_S):
            return await self._arrived.get() / 1e6


@asynccontextmanager
async def listening() -> AsyncIterator[Starts]:
    """Listen for the time of the block."""
    with tempfile.TemporaryDirectory(prefix="dataloader-starts-") as folder:
        starts = Starts(Path(folder) / "starts")
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(starts.environment[VARIABLE])
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(lambda: starts, sock=receiver)
        try:
            yield starts
        finally:
            transport.close()


def report(sent_ns: int) -> None:
    """Report, from a job, how long after its call it has started."""
    late_ns = time.time_ns() - sent_ns
    _sender().send(_MESSAGE.pack(late_ns))


@cache
def _sender() -> socket.socket:
    sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sender.connect(os.environ[VARIABLE])
    return sender
