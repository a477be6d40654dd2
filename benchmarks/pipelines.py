"""Pipelines that do nothing, for measuring everything around them."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator

from dataloader import JobContext, register

QUEUE = "bench"
TASK = "bench.noop"


@register(TASK, queue=QUEUE)
async def bench_noop(args: dict[str, object]) -> AsyncGenerator[None, None]:
    """Do nothing."""
    yield


@register("bench.latency", queue="latency")
async def bench_latency(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
    """Say how many nanoseconds have passed since the client sent its request."""
    sent_ns = args["sent_ns"]
    assert isinstance(sent_ns, int)
    ctx.result = {"ns": time.time_ns() - sent_ns}
    yield
