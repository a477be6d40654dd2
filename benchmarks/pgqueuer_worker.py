"""PgQueuer as its guide tunes it: installs itself, enqueues so many jobs, and drains them once told to.

It runs under the Python that has PgQueuer, and prints "ready" when it waits for a line.
"""

from __future__ import annotations

import asyncio
import importlib
import sys

BATCH = 1_000


async def noop(job: object) -> None:
    """Do nothing."""


async def main(jobs: int) -> None:
    """Prepare, wait for the word, work until ended."""
    asyncpg, pgqueuer, db = (importlib.import_module(name) for name in ("asyncpg", "pgqueuer", "pgqueuer.db"))
    async with asyncpg.create_pool(min_size=4, max_size=4) as pool:
        queue = pgqueuer.PgQueuer(db.AsyncpgPoolDriver(pool))
        await queue.queries.install()
        await queue.queries.optimize_autovacuum()
        await queue.queries.enqueue(["noop"] * jobs, [None] * jobs, [0] * jobs)
        queue.entrypoint("noop")(noop)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        await queue.run(batch_size=BATCH)


if __name__ == "__main__":
    importlib.import_module("uvloop").run(main(int(sys.argv[1])))
