"""procrastinate with an asynchronous worker: installs itself, enqueues so many jobs, and drains them once told to.

It runs under the Python that has procrastinate, and prints "ready" when it waits for a line.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys

CONCURRENCY = 10
CONNECTIONS = 10


async def noop() -> None:
    """Do nothing."""


async def main(jobs: int) -> None:
    """Prepare, wait for the word, work until ended."""
    logging.getLogger("procrastinate").setLevel(logging.ERROR)
    procrastinate = importlib.import_module("procrastinate")
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(min_size=4, max_size=CONNECTIONS))
    task = app.task(name="noop")(noop)
    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        await task.batch_defer_async(*[{}] * jobs)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    importlib.import_module("uvloop").run(main(int(sys.argv[1])))
