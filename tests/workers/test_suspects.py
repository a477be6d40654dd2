"""A job that was lost before takes nobody along: it runs alone until it has shown that it is harmless."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, finished, running_service

ALONE_S = 0.5


@pytest.mark.parametrize("advances", [False, True])
async def test_others_join_it_only_once_it_has_committed_a_checkpoint(
    settings: Settings, pg: Connection, advances: bool
) -> None:
    registry, log = Registry(), list[str]()

    @register("suspect", queue="q", registry=registry)
    async def suspect(args: dict[str, object], ctx: JobContext) -> AsyncGenerator[Any, None]:
        log.append("suspect begins")
        if advances:
            yield Checkpoint({"at": 1})
            await eventually(lambda: _in(log, "other begins"))
        else:
            yield
            await asyncio.sleep(ALONE_S)  # what is tested is that nothing happens meanwhile
        log.append("suspect ends")

    @register("other", queue="q", registry=registry)
    async def other(args: dict[str, object]) -> AsyncGenerator[None, None]:
        log.append("other begins")
        yield

    (lost,) = await enqueue(pg, settings, NewJob("q", "suspect"))
    await pg.execute("update dl_jobs set losses = 1")
    async with running_service(settings, registry):
        await eventually(lambda: _in(log, "suspect begins"))
        rows = await finished(pg, [lost, *await enqueue(pg, settings, NewJob("q", "other"))])

    assert {row["status"] for row in rows} == {"succeeded"}
    last = ["other begins", "suspect ends"] if advances else ["suspect ends", "other begins"]
    assert log == ["suspect begins", *last]


async def _in(log: list[str], line: str) -> bool:
    return line in log
