"""What the storm runs; loading this module also puts the fail points into the process."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from dataloader import JobContext, register
from dataloader.domain.retry import LinearBackoff
from dataloader.exceptions import LeaseLostError
from dataloader.workers import base
from tests.chaos.matrix.failpoints import install
from tests.chaos.matrix.orders import FAULTS, LEDGER, Orders, append

SMALL_CLAIM = 40
"""Most jobs of a claim in about every other process: a backlog of the storm is larger, and claims are sent ahead."""

Steps = AsyncGenerator[Any, None]


class DeliberateError(Exception):
    """A failure that the job was told to have."""


class LoadArgs(BaseModel):
    """A load in chunks: each attempt up to `failures` raises before its second chunk."""

    chunks: int
    sleep_s: float = 0
    pause_s: float = 0
    failures: int = 0


@register("matrix.nothing", queue="bulk")
async def nothing(_args: dict[str, object]) -> Steps:
    """Do nothing."""
    for _ in ():
        yield


@register("matrix.load", queue="chaos", retry=LinearBackoff(base_s=0.1, max_s=0.5))
async def load(args: LoadArgs, ctx: JobContext) -> Steps:
    """Write a row per chunk; whatever is tried and however it ends is written down outside the database first."""
    done = (ctx.checkpoint or {}).get("chunk", -1)
    assert isinstance(done, int)
    for chunk in range(done + 1, args.chunks):
        _note("try", ctx, chunk)
        try:
            await _write(args, ctx, chunk)
        except LeaseLostError:
            _note("refused", ctx, chunk)
            raise
        except BaseException as error:
            _note("raised", ctx, chunk, error=type(error).__name__)
            raise
        yield
        await asyncio.sleep(args.pause_s)


async def _write(args: LoadArgs, ctx: JobContext, chunk: int) -> None:
    if chunk == 1 and ctx.attempt <= args.failures:
        raise DeliberateError(f"attempt {ctx.attempt} of {args.failures} that fail")
    async with ctx.transaction() as tx:
        await tx.copy_rows("applied", [(ctx.job_id, chunk, ctx._run.lease.epoch)], ["job_id", "chunk", "epoch"])
        await asyncio.sleep(args.sleep_s)
        tx.checkpoint({"chunk": chunk}, done=chunk + 1, total=args.chunks)


def _note(event: str, ctx: JobContext, chunk: int, **facts: object) -> None:
    append(
        Path(LEDGER),
        event=event,
        job=str(ctx.job_id),
        epoch=ctx._run.lease.epoch,
        chunk=chunk,
        pid=os.getpid(),
        **facts,
    )


if Path(FAULTS).is_dir():
    if random.random() < 0.5:  # noqa: S311 - their numbers may all be even
        base.CLAIM_LIMIT = SMALL_CLAIM
    install(Orders(Path(FAULTS)))
    append(Path(LEDGER), event="armed", pid=os.getpid(), monotonic_s=time.monotonic())
