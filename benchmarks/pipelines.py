"""Pipelines that do nothing, for measuring everything around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from dataloader import register

QUEUE = "bench"
TASK = "bench.noop"


@register(TASK, queue=QUEUE)
async def bench_noop(args: dict[str, object]) -> AsyncGenerator[None, None]:
    """Do nothing."""
    yield
