"""Who may hold a lock key: a job that runs or is about to, and nobody who cannot."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.workers.pipelines.registry import Registry, register
from tests.workers.harness import enqueue, eventually, finished, job_row, running_service

Steps = AsyncGenerator[Any, None]
OFFER_TTL_S = 2.0
PAUSE = "insert into dl_queues (queue, paused_at) values ('other', clock_timestamp())"


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    for name, queue in (("t", "q"), ("u", "other")):

        @register(name, queue=queue, registry=registry)
        async def pipeline(args: dict[str, object]) -> Steps:
            yield

    return registry


async def test_a_candidate_in_a_paused_queue_does_not_hold_the_key(
    settings: Settings, pg: Any, registry: Registry
) -> None:
    await pg.execute(PAUSE)
    async with running_service(settings, registry):
        paused, *others = await enqueue(
            pg, settings, NewJob("other", "u", lock_key="k"), *[NewJob("q", "t", lock_key="k") for _ in range(5)]
        )
        began_s = time.monotonic()
        rows = await finished(pg, others)
        took_s = time.monotonic() - began_s
    waiting = await job_row(pg, paused)
    assert {row["status"] for row in rows} == {"succeeded"}
    assert took_s < OFFER_TTL_S
    assert (waiting["status"], waiting["ready"], waiting["attempt"]) == ("queued", False, 0)


@pytest.mark.parametrize("why", ["paused after the offer", "no worker", "unknown task", "task of another queue"])
async def test_an_offer_that_nobody_takes_gives_the_key_back(
    settings: Settings, pg: Any, registry: Registry, why: str
) -> None:
    task, queue = {
        "unknown task": ("v", "q"),
        "task of another queue": ("u", "q"),
        "no worker": ("t", "nobody"),
    }.get(why, ("u", "other"))
    (stuck,) = await enqueue(pg, settings, NewJob(queue, task, lock_key="k"))
    assert (await job_row(pg, stuck))["ready"]
    if why == "paused after the offer":
        await pg.execute(PAUSE)
    async with running_service(settings, registry):
        began_s = time.monotonic()
        others = await enqueue(pg, settings, *[NewJob("q", "t", lock_key="k") for _ in range(3)])
        rows = await finished(pg, others)
        took_s = time.monotonic() - began_s
    assert {(row["status"], row["attempt"]) for row in rows} == {("succeeded", 1)}
    assert took_s < OFFER_TTL_S + 2 * settings.dl_poll_sec
    assert (await job_row(pg, stuck))["attempt"] == 0


async def test_a_resumed_queue_gets_its_turn_back(settings: Settings, pg: Any, registry: Registry) -> None:
    await pg.execute(PAUSE)
    async with running_service(settings, registry):
        (paused,) = await enqueue(pg, settings, NewJob("other", "u", lock_key="k"))
        await pg.execute("update dl_queues set paused_at = null")
        await eventually(lambda: pg.fetchval("select finished_at from dl_jobs where job_id = $1", paused), within_s=3)
