"""Lock keys and partitions under many workers in several processes."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import connect
from tests.chaos.checks import (
    Ordered,
    Span,
    charged,
    deadlocks,
    out_of_order,
    overlaps,
    quantile,
    server_errors,
    unrest,
)
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue, eventually, finished


async def test_no_two_jobs_of_a_key_run_at_a_time(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    database: str,
    server_log: Path | None,
    size: Size,
    report: Callable[..., None],
) -> None:
    single, many = size.pick(small=(30, 100), full=(300, 1_000))
    keys = ["one"] * single + [f"ten-{n % 10}" for n in range(many)]
    for _ in range(4):
        fleet.start(queues={"chaos": 3}, pg_pool_size=4)
    for worker in fleet.started:
        await worker.works()
    jobs = [NewJob("chaos", "chaos.span", {"key": key}, lock_key=key) for key in keys]
    began_s = time.monotonic()
    ids = await enqueue(pg, settings, *jobs)
    rows = await finished(pg, ids, within_s=size.pick(small=60, full=300))
    took_s = time.monotonic() - began_s

    spans = await _spans(pg)
    between_s = _hand_overs(spans)
    workers = await pg.fetchval("select count(distinct actor) from dl_job_events where kind = 'claimed'")
    found: dict[str, object] = {
        "overlaps": len(overlaps(spans)),
        "charged": charged(rows),
        "server": server_errors(server_log, database) | {"deadlocks": await deadlocks(pg)},
    }
    report(
        jobs=len(ids),
        processes_that_ran_some=workers,
        took_s=took_s,
        left_to_entered_ms={f"p{q}": 1000 * quantile(between_s, q / 100) for q in (50, 90, 99)},
        **found,
    )
    assert len(spans) == len(ids)
    assert not found["overlaps"]
    assert not any(charged(rows).values())
    assert not await deadlocks(pg)
    assert not any(server_errors(server_log, database).values())
    assert quantile(between_s, 0.5) < size.pick(small=0.25, full=0.05)
    assert workers == 4


async def test_a_partition_starts_its_jobs_as_they_were_acknowledged(
    *, fleet: Fleet, pg: Any, settings: Settings, size: Size, chance: random.Random, report: Callable[..., None]
) -> None:
    each, partitions = size.pick(small=60, full=1_000), 20
    for _ in range(2):
        fleet.start(queues={"chaos": 12}, pg_pool_size=4)
    for worker in fleet.started:
        await worker.works()
    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        producers = [group.create_task(_produce(settings, chance, each, partitions)) for _ in range(8)]
    sent = {job_id: facts for producer in producers for job_id, facts in producer.result().items()}
    rows = await finished(pg, list(sent), within_s=size.pick(small=60, full=600))
    took_s = time.monotonic() - began_s

    started = {row["job_id"]: row["started_at"].timestamp() for row in rows}
    ordered = [Ordered(partition, sent_s, acked_s, started[i]) for i, (partition, sent_s, acked_s) in sent.items()]
    wrong, together = out_of_order(ordered), len(overlaps(await _spans(pg)))
    early = await pg.fetchval(
        "select count(*) from dl_jobs a join dl_jobs b using (partition_key)"
        " where a.seq < b.seq and a.started_at > b.started_at"
    )
    report(
        jobs=len(rows),
        partitions=partitions,
        out_of_order=wrong,
        overlaps=together,
        took_s=took_s,
        charged=charged(rows),
    )
    assert not wrong
    assert not together
    assert not early
    assert not any(charged(rows).values())
    assert not await deadlocks(pg)


async def test_nothing_is_left_at_rest(fleet: Fleet, pg: Any, settings: Settings, report: Callable[..., None]) -> None:
    worker = fleet.start(queues={"chaos": 8})
    await worker.works()
    jobs = [NewJob("chaos", "chaos.load", {"chunks": 3}, lock_key=f"k{n % 5}") for n in range(40)]
    ids = await enqueue(pg, settings, *jobs)
    await finished(pg, ids)

    async def quiet() -> bool:
        found = await unrest(pg)
        return not (found["advisory"] or found["idle_in_transaction"] or found["chunks"])

    await eventually(quiet)
    running = await unrest(pg)
    worker.signal(signal.SIGTERM)
    assert await worker.ends() == 0

    async def gone() -> bool:
        return not (await unrest(pg))["connections"]

    await eventually(gone)
    report(with_an_idle_worker=running, after_its_end=await unrest(pg))


def _hand_overs(spans: Iterable[Span]) -> list[float]:
    """Return the seconds between a run's end and the next one's beginning under the same key."""
    by_key: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.entered_at):
        by_key[span.key].append(span)
    return [
        (after.entered_at - before.left_at).total_seconds()
        for stays in by_key.values()
        for before, after in pairwise(stays)
        if before.left_at is not None
    ]


async def _spans(pg: Any) -> list[Span]:
    return [Span(row["key"], row["entered_at"], row["left_at"]) for row in await pg.fetch("select * from spans")]


async def _produce(
    settings: Settings, chance: random.Random, count: int, partitions: int
) -> dict[UUID, tuple[str, float, float]]:
    """Enqueue one job after the other; return partition, and the times of sending and of the answer."""
    sent: dict[UUID, tuple[str, float, float]] = {}
    connection = await connect(settings, purpose="producer")
    assert isinstance(connection, asyncpg.Connection)
    try:
        for _ in range(count):
            partition = f"p{chance.randrange(partitions)}"
            job = NewJob(
                "chaos",
                "chaos.span",
                {"key": partition, "hold_s": 0},
                partition_key=partition,
                priority=chance.randrange(200),
            )
            sent_s = time.monotonic()
            (job_id,) = await enqueue(connection, settings, job)
            sent[job_id] = (partition, sent_s, time.monotonic())
    finally:
        await connection.close()
    return sent
