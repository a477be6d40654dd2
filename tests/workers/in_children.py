"""Pipelines that run in child processes, which import them by name, and one of them inline to compare with."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import AsyncGenerator, Iterator
from typing import Any

from dataloader.domain.retry import LinearBackoff
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import register

FAST = LinearBackoff(0.01)


async def count(args: dict[str, Any], ctx: JobContext) -> AsyncGenerator[None, None]:
    """Write one number per chunk; fail, die or pause in the middle if told to."""
    state: Any = ctx.checkpoint or {"n": 0}
    for n in range(state["n"], args["upto"]):
        if n == args.get("fail_at") and ctx.attempt == 1:
            raise ValueError("on purpose")
        if n == args.get("die_at") and ctx.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        async with ctx.transaction() as tx:
            await tx.copy_rows("counted", [(n, os.getpid())])
            tx.checkpoint({"n": n + 1}, done=n + 1, total=args["upto"])
        await asyncio.sleep(args.get("pause_s", 0))
        yield
    ctx.result = {"attempt": ctx.attempt}


register("count.inline", queue="q", retry=FAST)(count)
register("count.process", queue="q", retry=FAST, executor="process")(count)


@register("plain.function", queue="q", executor="process")
def plain_function(args: dict[str, Any]) -> object:
    """Return the sum, and print."""
    print("said by the pipeline")  # noqa: T201 - what is printed is under test
    return {"sum": sum(args["numbers"]), "environment": [name for name in os.environ if name.startswith("PG_PASS")]}


@register("plain.generator", queue="q", executor="process", retry=FAST)
def plain_generator(args: dict[str, Any], ctx: JobContext) -> Iterator[object]:
    """Yield checkpoints; fail once."""
    state: Any = ctx.checkpoint or {"n": 0}
    for n in range(state["n"], 4):
        if n == 2 and ctx.attempt == 1:
            raise ValueError("on purpose")
        yield Checkpoint({"n": n + 1}, done=n + 1)
    ctx.result = {"began_at": state["n"]}


@register("deaf", queue="q", executor="process")
def deaf(args: dict[str, Any], ctx: JobContext) -> None:
    """Hold the interpreter in C, deaf to SIGTERM."""
    ctx.progress(message="deaf")
    signal_time = ctypes.PyDLL(None).sleep
    ctypes.CDLL(None).usleep(300_000)
    signal_time(600)


@register("crash", queue="q", executor="process", max_attempts=1)
def crash(args: dict[str, Any]) -> None:
    """Read where no memory is."""
    ctypes.string_at(0)


@register("greedy", queue="q", executor="process", max_attempts=1)
def greedy(args: dict[str, Any]) -> int:
    """Take more memory than is allowed."""
    return len(bytearray(1 << 30))


@register("unfit", queue="q", executor="process", max_attempts=1)
def unfit(args: dict[str, Any]) -> object:
    """Return what is no JSON value."""
    return object()
