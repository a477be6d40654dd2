"""PgQueuer for the latency of a start: its worker, a FastAPI application that enqueues, both in one, or a mere caller.

It runs under the Python that has PgQueuer, and prints "ready" when it is.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from typing import Any

from benchmarks.lines import read_lines
from benchmarks.starts import report

ENTRYPOINT = "start"


async def start(job: Any) -> None:
    """Report the start."""
    report(json.loads(job.payload)["sent_ns"])


async def enqueue(queries: Any, args: dict[str, object]) -> str:
    """Enqueue a job; return its id."""
    ids = await queries.enqueue(ENTRYPOINT, json.dumps(args).encode())
    return str(ids[0])


async def serve(queries: Any, port: int) -> None:
    """Serve an application that takes jobs."""
    fastapi, uvicorn, pydantic = (importlib.import_module(name) for name in ("fastapi", "uvicorn", "pydantic"))
    body_type = pydantic.create_model("Job", task=(str, ...), args=(dict[str, object], ...))
    app = fastapi.FastAPI()

    async def trigger(body: Any) -> dict[str, str]:
        return {"job_id": await enqueue(queries, body.args)}

    trigger.__annotations__["body"] = body_type
    app.post("/jobs", status_code=201)(trigger)
    config = uvicorn.Config(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        print("ready", flush=True)


async def call(queries: Any) -> None:
    """Enqueue a job for every line."""
    print("ready", flush=True)
    async for _ in read_lines():
        await enqueue(queries, {"sent_ns": time.time_ns()})


async def main(role: str, port: int) -> None:
    """Run a role: worker, api, both or caller."""
    asyncpg, pgqueuer, db = (importlib.import_module(name) for name in ("asyncpg", "pgqueuer", "pgqueuer.db"))
    async with asyncpg.create_pool(min_size=4, max_size=4) as pool, asyncio.TaskGroup() as group:
        queue = pgqueuer.PgQueuer(db.AsyncpgPoolDriver(pool))
        queue.entrypoint(ENTRYPOINT)(start)
        if role in {"worker", "both"}:
            await queue.queries.install()
            await queue.queries.optimize_autovacuum()
            group.create_task(queue.run())
        match role:
            case "worker":
                print("ready", flush=True)
            case "caller":
                await call(queue.queries)
            case _:
                await serve(queue.queries, port)


if __name__ == "__main__":
    importlib.import_module("uvloop").run(main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 0))
