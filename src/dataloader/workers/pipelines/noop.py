"""`noop`: the smoke test, and the demo of faults."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncGenerator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import register


class NoopArgs(BaseModel):
    """What `noop` does; chunks are counted from 1."""

    model_config = ConfigDict(extra="forbid")

    chunks: Annotated[int, Field(ge=0, le=1_000_000, description="Chunks to run through")] = 3
    sleep_s: Annotated[float, Field(ge=0, le=86_400, description="Seconds each chunk takes")] = 0
    fail_at: Annotated[int | None, Field(ge=1, description="Chunk that raises an error")] = None
    block_s: Annotated[float, Field(ge=0, le=3_600, description="Seconds the first chunk blocks its event loop")] = 0
    exit_at: Annotated[int | None, Field(ge=1, description="Chunk that kills its process")] = None


@register("noop", queue="noop")
async def noop(args: NoopArgs, ctx: JobContext) -> AsyncGenerator[object, None]:
    """Do nothing in a number of chunks; arguments make it slow, fail, block or die."""
    done = _done_before(ctx)
    for chunk in range(done + 1, args.chunks + 1):
        if args.block_s and chunk == 1:
            time.sleep(args.block_s)  # noqa: ASYNC251 - the fault this argument asks for
        if args.sleep_s:
            await asyncio.sleep(args.sleep_s)
        if chunk == args.exit_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if chunk == args.fail_at:
            raise RuntimeError(f"chunk {chunk} was told to fail")
        yield _safe_point(args, chunk)


def _done_before(ctx: JobContext) -> int:
    done = (ctx.checkpoint or {}).get("chunk", 0)
    return done if isinstance(done, int) else 0


def _safe_point(args: NoopArgs, chunk: int) -> object:
    """Checkpoint only where chunks take time: nobody needs to resume what takes none."""
    if args.sleep_s or args.block_s:
        return Checkpoint({"chunk": chunk}, done=chunk, total=args.chunks)
    return {"done": chunk, "total": args.chunks}
