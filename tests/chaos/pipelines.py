"""What the workers under test run. Every try is written down outside the fence, so that the difference can be seen."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
from pydantic import BaseModel

from dataloader import JobContext, register
from dataloader.config import Settings
from dataloader.domain.retry import LinearBackoff
from dataloader.storage.db import connect

Steps = AsyncGenerator[Any, None]
SOON = LinearBackoff(base_s=0.05)


class LoadArgs(BaseModel):
    """A load in chunks; a chunk takes `sleep_s`, half of it before its rows are written; then comes a pause."""

    chunks: int
    rows: int = 5
    sleep_s: float = 0.02
    pause_s: float = 0
    ledger: str | None = None


class CopyArgs(BaseModel):
    """A COPY that streams slowly."""

    rows: int
    pause_s: float
    ledger: str
    slow_epochs: int = 1


class SpanArgs(BaseModel):
    """A stay under a key."""

    key: str
    hold_s: float = 0.001


def note(path: str | None, **facts: object) -> None:
    """Append a line to a ledger; it survives the process at any moment."""
    if path is not None:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, (json.dumps(facts) + "\n").encode())
        os.close(descriptor)


def epoch_of(ctx: JobContext) -> int:
    """Return the fencing token of this run, which pipelines are not shown."""
    return ctx._run.lease.epoch


@register("chaos.load", retry=SOON)
async def load(args: LoadArgs, ctx: JobContext) -> Steps:
    """Write rows chunk by chunk."""
    done = (ctx.checkpoint or {}).get("chunk", -1)
    assert isinstance(done, int)
    for chunk in range(done + 1, args.chunks):
        note(args.ledger, job=str(ctx.job_id), epoch=epoch_of(ctx), chunk=chunk, pid=os.getpid())
        async with ctx.transaction() as tx:
            await asyncio.sleep(args.sleep_s / 2)
            rows = [(ctx.job_id, chunk, n, epoch_of(ctx)) for n in range(args.rows)]
            await tx.copy_rows("loaded", rows, ["job_id", "chunk", "n", "epoch"])
            await asyncio.sleep(args.sleep_s / 2)
            tx.checkpoint({"chunk": chunk}, done=chunk + 1, total=args.chunks)
        yield
        if args.pause_s:
            await asyncio.sleep(args.pause_s)


register("chaos.load_in_child", retry=SOON, max_attempts=100, executor="process")(load)


@register("chaos.sealed", retry=SOON)
async def slow_commit(args: CopyArgs, ctx: JobContext) -> Steps:
    """Wait between the fence, which locks the job's row, and the commit."""
    async with ctx.transaction() as tx:
        await tx.execute("lock table copied in share row exclusive mode")
        await tx.copy_rows("copied", [(ctx.job_id, n, "") for n in range(args.rows)])
        tx.checkpoint({"rows": args.rows})
        if epoch_of(ctx) <= args.slow_epochs:
            await tx.seal()
            note(args.ledger, job=str(ctx.job_id), at=args.rows)
            await asyncio.sleep(args.pause_s)
    yield


@register("chaos.copy", retry=SOON)
async def slow_copy(args: CopyArgs, ctx: JobContext) -> Steps:
    """Stream one COPY; the first runs are slow, so that they can be frozen in the middle."""
    pause_s = args.pause_s if epoch_of(ctx) <= args.slow_epochs else 0
    async with ctx.transaction() as tx:
        await tx.execute("lock table copied in share row exclusive mode")
        await tx.connection.copy_to_table("copied", source=_stream(args, ctx.job_id, pause_s), format="text")
        note(args.ledger, job=str(ctx.job_id), epoch=epoch_of(ctx), done=True)
        tx.checkpoint({"rows": args.rows})
    yield


async def _stream(args: CopyArgs, job_id: UUID, pause_s: float) -> AsyncIterator[bytes]:
    for n in range(args.rows):
        if n == args.rows // 4:
            note(args.ledger, job=str(job_id), at=n)
        if pause_s:
            await asyncio.sleep(pause_s)
        yield f"{job_id}\t{n}\t{'x' * 2000}\n".encode()


@register("chaos.read", retry=SOON)
async def read_a_socket(args: dict[str, object]) -> Steps:
    """Wait for bytes that never come."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(str(args["port"])))
    try:
        await reader.readexactly(1)
    finally:
        writer.close()
    yield


@register("chaos.span", retry=SOON)
async def span(args: SpanArgs, ctx: JobContext) -> Steps:
    """Write down, outside of any chunk, when the run had its key."""
    pool = await _own_pool(ctx.settings)
    await pool.execute("insert into spans values ($1, $2, $3, clock_timestamp())", ctx.job_id, epoch_of(ctx), args.key)
    await asyncio.sleep(args.hold_s)
    await pool.execute(
        "update spans set left_at = clock_timestamp() where job_id = $1 and epoch = $2", ctx.job_id, epoch_of(ctx)
    )
    yield


_pools: dict[asyncio.AbstractEventLoop, asyncpg.Pool[asyncpg.Record]] = {}
_opening = asyncio.Lock()


async def _own_pool(settings: Settings) -> asyncpg.Pool[asyncpg.Record]:
    """Return connections that have nothing to do with the service's."""
    loop = asyncio.get_running_loop()
    async with _opening:
        if loop not in _pools:

            async def opener(_dsn: object, **options: Any) -> Any:
                return await connect(settings, purpose="witness", **options)

            _pools[loop] = await asyncpg.create_pool(connect=opener, min_size=1, max_size=2)  # type: ignore[call-overload]
    return _pools[loop]
