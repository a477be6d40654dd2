"""How few statements a job costs: a batch is one, whatever its size."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection, connect
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, finished, running_service
from tests.workers.wire import Wiretap

MOST = 6
SETTINGS: dict[str, Any] = {"workers_json": [{"queue": "q", "concurrency": 50}], "dl_poll_sec": 30}


async def test_a_hundred_jobs_in_batches_of_fifty_take_six_statements_at_most(
    pg: Connection, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(**SETTINGS)
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> AsyncGenerator[None, None]:
        yield

    tap = await Wiretap(settings).start()
    tapped = make_settings(**SETTINGS, **tap.overrides)
    async with running_service(tapped, registry):
        client = await connect(tapped, purpose="test")
        await finished(pg, await enqueue(pg, settings, NewJob("q", "t")))
        await eventually(lambda: told(tap))
        tap.statements.clear()

        jobs = await enqueue(client, settings, *[NewJob("q", "t") for _ in range(100)])
        rows = await finished(pg, jobs)
        await eventually(lambda: told(tap))
        statements = [one for one in tap.statements if not one.startswith("set ")]
        await client.close()
    await tap.cut()

    assert {row["status"] for row in rows} == {"succeeded"}
    assert 2 < len(statements) <= MOST, [" ".join(statement.split())[:60] for statement in statements]


async def told(tap: Wiretap) -> bool:
    """Return whether the last thing said was that jobs have ended."""
    return "pg_notify" in tap.statements[-1]
