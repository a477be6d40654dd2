"""Cancel of a pipeline that waits where no yield is: in a COPY, in a socket, in a statement."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, finished, running_service

Steps = AsyncGenerator[Any, None]
LEFT = "select count(*) from pg_stat_activity where application_name like 'dl/%' and datname = current_database()"


@pytest.fixture
async def silent_port() -> AsyncIterator[int]:
    """A server that takes connections and says nothing."""
    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    for writer in writers:
        writer.close()


@pytest.fixture
def registry(silent_port: int) -> Registry:
    registry = Registry()

    @register("copy", queue="q", registry=registry)
    async def copy(args: dict[str, object], ctx: JobContext) -> Steps:
        async def endless() -> AsyncIterator[bytes]:
            while True:
                await asyncio.sleep(0.001)
                yield b"1\n"

        async with ctx.transaction() as tx:
            await tx.connection.copy_to_table("target", source=endless(), format="text")
        yield

    @register("stalled-copy", queue="q", registry=registry)
    async def stalled_copy(args: dict[str, object], ctx: JobContext) -> Steps:
        async def silent() -> AsyncIterator[bytes]:
            yield b"1\n"
            await asyncio.sleep(600)

        async with ctx.transaction() as tx:
            await tx.connection.copy_to_table("target", source=silent(), format="text")
        yield

    @register("socket", queue="q", registry=registry)
    async def read(args: dict[str, object]) -> Steps:
        reader, writer = await asyncio.open_connection("127.0.0.1", silent_port)
        try:
            await reader.readexactly(1)
        finally:
            writer.close()
        yield

    @register("statement", queue="q", registry=registry)
    async def statement(args: dict[str, object], ctx: JobContext) -> Steps:
        async with ctx.transaction() as tx:
            await tx.execute("insert into target values (1)")
            await tx.execute("select pg_sleep(600)")
        yield

    @register("swallow", queue="q", registry=registry)
    async def swallow(args: dict[str, object]) -> Steps:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0.1)
        yield

    return registry


@pytest.mark.parametrize("task", ["copy", "stalled-copy", "socket", "statement", "swallow"])
async def test_cancel_ends_it_within_the_bound(settings: Settings, pg: Any, registry: Registry, task: str) -> None:
    await pg.execute("create table target (n int)")
    async with running_service(settings, registry):
        (job_id,) = await enqueue(pg, settings, NewJob("q", task))
        await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", job_id))
        if task in {"copy", "stalled-copy", "statement"}:
            await eventually(lambda: pg.fetchval(LEFT))
        began_s = time.monotonic()
        await pg.fetch("select * from dl_cancel($1)", job_id)
        (row,) = await finished(pg, [job_id])
        took_s = time.monotonic() - began_s
        await eventually(lambda: _nothing_is_left(pg))
    bound_s = settings.dl_cancel_grace_sec + 1
    sys.stdout.write(f"\n{task}: canceled after {took_s:.2f} s, bound {bound_s:.2f} s\n")
    assert row["status"] == "canceled"
    assert took_s < bound_s
    assert await pg.fetchval("select count(*) from target") == 0


async def _nothing_is_left(pg: Any) -> bool:
    return not await pg.fetchval(LEFT)
