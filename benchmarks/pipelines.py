"""Pipelines that do nothing, for measuring everything around them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator

from benchmarks import starts
from dataloader import JobContext, register

QUEUE = "bench"
TASK = "bench.noop"
_PROBE_PERIOD_S = 0.01


@register(TASK, queue=QUEUE)
async def bench_noop(args: dict[str, object]) -> AsyncGenerator[None, None]:
    """Do nothing."""
    yield


@register("bench.start", queue="starts")
async def bench_start(args: dict[str, object]) -> AsyncGenerator[None, None]:
    """Report the start."""
    sent_ns = args["sent_ns"]
    assert isinstance(sent_ns, int)
    starts.report(sent_ns)
    yield


@register("bench.sleep", queue="sleepers")
async def bench_sleep(args: dict[str, object]) -> AsyncGenerator[None, None]:
    """Sleep until cancelled."""
    await asyncio.sleep(86_400)
    yield


@register("bench.probe", queue="starts")
async def bench_probe(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[None, None]:
    """Measure how late the pipelines' loop wakes up; say which thread of the process is which."""
    seconds = args["seconds"]
    assert isinstance(seconds, (int, float))
    late_ms: list[float] = []
    until_s = time.perf_counter() + seconds
    while (now_s := time.perf_counter()) < until_s:
        await asyncio.sleep(_PROBE_PERIOD_S)
        late_ms.append((time.perf_counter() - now_s - _PROBE_PERIOD_S) * 1e3)
    threads = {thread.name: thread.native_id for thread in threading.enumerate()}
    ctx.result = {"late_ms": late_ms, "threads": threads}
    yield
