"""Plain functions and plain generators as pipelines: they run on a thread of their child process."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncGenerator, Iterator

from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.spec import TaskSpec

_END = object()


async def plain_steps(spec: TaskSpec, args: object, context: JobContext) -> AsyncGenerator[object, None]:
    """Go through a plain generator, or call a plain function, whose answer becomes the job's result."""
    values = (args, context) if spec.takes_context else (args,)
    answer = await asyncio.to_thread(spec.pipeline, *values)
    if not inspect.isgeneratorfunction(spec.pipeline):
        context.result = answer if context.result is None else context.result
        return
    steps: Iterator[object] = iter(answer)  # type: ignore[call-overload]
    while (step := await asyncio.to_thread(next, steps, _END)) is not _END:
        yield step
