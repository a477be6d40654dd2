"""SIGKILL at random moments: a load goes on from its checkpoint, and what kills its process takes nobody along."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import not_exactly_once, read_ledger
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue, events, eventually, finished

ROWS = 5


async def test_a_load_survives_kills_at_random_moments(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
) -> None:
    kills, chunks = size.pick(small=(4, 50), full=(20, 240))
    ledger = tmp_path / "ledger"
    args = {"chunks": chunks, "rows": ROWS, "sleep_s": 0.05, "ledger": str(ledger)}
    (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load", args))
    worker = fleet.start(dl_default_lease_ttl_sec=2)
    for kill in range(kills):
        await eventually(partial(_runs_under, pg, job_id, kill + 1))
        if await pg.fetchval("select losses from dl_jobs where job_id = $1", job_id) == 2:
            await eventually(partial(_has_advanced, pg, job_id, kill + 1))
        await asyncio.sleep(chance.uniform(0, 0.4))
        await worker.kill()
        worker = fleet.start(dl_default_lease_ttl_sec=2)
    (row,) = await finished(pg, [job_id], within_s=60)

    story = Counter(await events(pg, job_id))
    tries = [(note["epoch"], note["chunk"]) for note in read_ledger(ledger)]
    wrong = await not_exactly_once(pg, [(job_id, chunk, n) for chunk in range(chunks) for n in range(ROWS)])
    committed = {r["chunk"]: r["epoch"] for r in await pg.fetch("select distinct chunk, epoch from loaded")}
    report(
        kills=kills,
        chunks=chunks,
        tries=len(tries),
        rolled_back=len(tries) - chunks,
        wrong_rows=wrong,
        events=dict(story),
    )
    assert not any(wrong.values())
    assert (row["status"], row["attempt"], row["epoch"]) == ("succeeded", 1, kills + 1)
    assert (story["claimed"], story["lease_expired"], story["succeeded"]) == (kills + 1, kills, 1)
    assert len(tries) > chunks, "no kill hit the middle of a chunk"
    for epoch in range(2, kills + 2):
        resumed_at = min((chunk for e, chunk in tries if e == epoch), default=None)
        last = max((chunk for chunk, e in committed.items() if e < epoch), default=-1)
        assert resumed_at in {None, last + 1}, f"epoch {epoch} did not go on from its checkpoint"


async def test_a_poison_job_ends_lost_and_takes_nobody_along(
    fleet: Fleet, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    neighbours = size.pick(small=5, full=20)
    args = {"chunks": 10, "rows": ROWS, "sleep_s": 0.1}
    ids = await enqueue(pg, settings, *[NewJob("chaos", "chaos.load", args) for _ in range(neighbours)])
    queues = {"chaos": 4, "noop": 4}
    worker = fleet.start(queues=queues, dl_default_lease_ttl_sec=2)
    await eventually(lambda: pg.fetchval("select count(*) = 4 from dl_jobs where status = 'running'"))
    (poison,) = await enqueue(pg, settings, NewJob("noop", "noop", {"exit_at": 1}))

    deaths = 0
    while not await pg.fetchval("select finished_at from dl_jobs where job_id = $1", poison):
        if worker.exit_code is not None:
            deaths += 1
            worker = fleet.start(queues=queues, dl_default_lease_ttl_sec=2)
        await asyncio.sleep(0.02)
    (lost,) = await finished(pg, [poison])
    rows = await finished(pg, ids, within_s=60)

    story = Counter(await events(pg, poison))
    losses = Counter(row["losses"] for row in rows)
    wrong = await not_exactly_once(pg, [(i, chunk, n) for i in ids for chunk in range(10) for n in range(ROWS)])
    report(deaths=deaths, poison=lost["status"], story=dict(story), losses_of_neighbours=dict(losses), wrong_rows=wrong)
    assert (lost["status"], lost["losses"], deaths) == ("lost", 3, 3)
    assert (story["claimed"], story["lease_expired"], story["lost"]) == (3, 2, 1)
    assert {(row["status"], row["attempt"]) for row in rows} == {("succeeded", 1)}
    assert max(losses) <= 1
    assert not any(wrong.values())


async def _runs_under(pg: Any, job_id: UUID, epoch: int) -> bool:
    return bool(
        await pg.fetchval("select status = 'running' and epoch = $2 from dl_jobs where job_id = $1", job_id, epoch)
    )


async def _has_advanced(pg: Any, job_id: UUID, epoch: int) -> bool:
    return bool(await pg.fetchval("select checkpoint_epoch = $2 from dl_jobs where job_id = $1", job_id, epoch))
