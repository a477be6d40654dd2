"""A worker that is frozen beyond its lease and comes back: it writes nothing, blocks nobody, and says so."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import not_exactly_once, read_ledger, unrest
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet, ServiceProcess
from tests.workers.harness import enqueue, eventually, finished

CHUNKS = 40
IN_CHUNK = "select count(*) from pg_stat_activity where application_name like 'dl/%' and datname = current_database()"


@pytest.fixture
def timers(size: Size) -> dict[str, Any]:
    """Real timers in a full run."""
    real: dict[str, Any] = {"dl_default_lease_ttl_sec": 60, "dl_heartbeat_sec": 10, "dl_reaper_period_sec": 10}
    return size.pick(small={"dl_default_lease_ttl_sec": 2}, full=real)


def bound_s(settings: Settings, timers: dict[str, Any]) -> float:
    """Return when a frozen worker's job must be running again: its lease, two looks of the reaper, and its work."""
    final = settings.model_copy(update=timers)
    return final.dl_default_lease_ttl_sec + 2 * final.dl_reaper_period_sec + 2 * final.dl_heartbeat_sec + 4


async def started(fleet: Fleet, timers: dict[str, Any]) -> float:
    """Start a successor; return how many seconds its process took until it claims jobs."""
    began_s = time.monotonic()
    await fleet.start(**timers).works()
    return time.monotonic() - began_s


@pytest.mark.parametrize("wakes", ["while its successor runs", "after its successor ended"])
async def test_a_worker_frozen_between_chunks_writes_nothing_when_it_wakes(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    timers: dict[str, Any],
    wakes: str,
    report: Callable[..., None],
) -> None:
    ledger = tmp_path / "ledger"
    args = {"chunks": CHUNKS, "rows": 5, "sleep_s": 0.01, "pause_s": 0.05, "ledger": str(ledger)}
    (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load", args))
    zombie = fleet.start(**timers)
    await eventually(lambda: pg.fetchval("select checkpoint is not null from dl_jobs where job_id = $1", job_id))
    await _freeze(zombie, pg, in_chunk=False)
    frozen_s = time.monotonic()
    limit_s = await started(fleet, timers) + bound_s(settings, timers)
    await eventually(lambda: _has_advanced(pg, job_id), within_s=limit_s)
    took_s = time.monotonic() - frozen_s
    if wakes == "after its successor ended":
        await finished(pg, [job_id])
    tries_before = len(read_ledger(ledger))

    zombie.signal(signal.SIGCONT)
    await zombie.says("run was fenced, its result is dropped")
    (row,) = await finished(pg, [job_id])
    tries = [note for note in read_ledger(ledger)[tries_before:] if note["epoch"] == 1]
    wrong = await not_exactly_once(pg, [(job_id, chunk, n) for chunk in range(CHUNKS) for n in range(5)])
    report(successor_runs_s=took_s, bound_s=limit_s, zombie_tried=len(tries), wrong_rows=wrong)
    assert tries, "the zombie did not even try"
    assert not any(wrong.values())
    assert (row["status"], row["attempt"], row["losses"], row["epoch"]) == ("succeeded", 1, 1, 2)
    assert dict(await _row(pg, job_id)) == dict(row), "the zombie changed the row of a finished job"


@pytest.mark.parametrize("task", ["chaos.copy", "chaos.sealed"])
async def test_a_worker_frozen_inside_its_chunk_does_not_block_its_successor(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    timers: dict[str, Any],
    task: str,
    report: Callable[..., None],
) -> None:
    ledger, count = tmp_path / "ledger", 2_000
    args = {"rows": count, "pause_s": 0.001 if task == "chaos.copy" else 1.0, "ledger": str(ledger)}
    (job_id,) = await enqueue(pg, settings, NewJob("chaos", task, args))
    zombie = fleet.start(**timers)
    await eventually(lambda: _noted(ledger))
    await _freeze(zombie, pg, in_chunk=True)
    frozen_s = time.monotonic()
    limit_s = await started(fleet, timers) + bound_s(settings, timers)
    (row,) = await finished(pg, [job_id], within_s=limit_s + 5)
    took_s = time.monotonic() - frozen_s

    zombie.signal(signal.SIGCONT)
    await zombie.says("run was fenced, its result is dropped")
    rows = await pg.fetchrow("select count(*) as rows, count(distinct n) as different from copied")
    report(successor_done_s=took_s, bound_s=limit_s, rows=dict(rows))
    assert took_s < limit_s
    assert (rows["rows"], rows["different"]) == (count, count)
    assert (row["status"], row["attempt"], row["losses"], row["epoch"]) == ("succeeded", 1, 1, 2)
    assert dict(await _row(pg, job_id)) == dict(row), "the zombie changed the row of a finished job"
    assert not (await unrest(pg))["idle_in_transaction"]


async def _freeze(worker: ServiceProcess, pg: Any, *, in_chunk: bool) -> None:
    """Stop a worker when it is in a chunk, or when it is not."""
    while True:
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(0.02)
        if bool(await pg.fetchval(IN_CHUNK)) is in_chunk:
            return
        worker.signal(signal.SIGCONT)
        await asyncio.sleep(0.013)


async def _has_advanced(pg: Any, job_id: object) -> bool:
    return bool(await pg.fetchval("select checkpoint_epoch = 2 from dl_jobs where job_id = $1", job_id))


async def _noted(ledger: Path) -> bool:
    return bool(read_ledger(ledger))


async def _row(pg: Any, job_id: object) -> Any:
    return await pg.fetchrow("select * from dl_jobs where job_id = $1", job_id)
