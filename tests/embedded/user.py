"""A process that uses a server until its standard input ends: `python -m tests.embedded.user DATA_DIR`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dataloader.embedded import EmbeddedServer

FAST = {"fsync": "off", "shared_buffers": "16MB"}


async def main(data_dir: Path) -> None:
    """Use the server, watch over it, and say what happens, one line each."""
    server = EmbeddedServer(data_dir, settings=FAST)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        await server.start()
        sys.stdout.write("started\n")
        sys.stdout.flush()
        group.create_task(server.run(stop))
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
    sys.stdout.write("stopped\n" if await server.stop() else "left\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
