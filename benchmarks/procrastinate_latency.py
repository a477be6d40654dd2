"""procrastinate for the latency of a start: its worker, or a caller that defers a job for every line.

It runs under the Python that has procrastinate, and prints "ready" when it is.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import time

from benchmarks.lines import read_lines
from benchmarks.procrastinate_worker import CONCURRENCY, CONNECTIONS
from benchmarks.starts import report


async def start(sent_ns: int) -> None:
    """Report the start."""
    report(sent_ns)


async def main(role: str) -> None:
    """Run a role: worker or caller."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    procrastinate = importlib.import_module("procrastinate")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=4, max_size=CONNECTIONS))
    task = app.task(name="start")(start)
    async with app.open_async(), asyncio.TaskGroup() as group:
        if role == "worker":
            await app.schema_manager.apply_schema_async()
            group.create_task(app.run_worker_async(concurrency=CONCURRENCY))
            print("ready", flush=True)
            return
        print("ready", flush=True)
        async for _ in read_lines():
            await task.defer_async(sent_ns=time.time_ns())


if __name__ == "__main__":
    importlib.import_module("uvloop").run(main(sys.argv[1]))
