"""The end of a worker process: what it hands over, what it charges, how long it takes."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import charged, not_exactly_once
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet, ServiceProcess
from tests.workers.harness import enqueue, eventually, finished, job_row

IN_CHUNK = "select count(*) from pg_stat_activity where application_name like 'dl/%/' || $1 || '/%'"
LOADS: Mapping[str, Mapping[str, object]] = {
    "running": {"chunks": 400, "rows": 1, "sleep_s": 0.001, "pause_s": 0.01},
    "mid_chunk": {"chunks": 2, "rows": 1, "sleep_s": 2.0},
}
SIGNALS: Mapping[str, Sequence[signal.Signals]] = {
    "TERM": [signal.SIGTERM],
    "INT": [signal.SIGINT],
    "TERM twice": [signal.SIGTERM, signal.SIGTERM],
    "KILL in drain": [signal.SIGTERM, signal.SIGKILL],
}


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended."""

    code: int
    took_s: float


@pytest.mark.parametrize("state", ["idle", "running", "mid_chunk"])
async def test_every_signal_in_every_state_costs_no_attempt(
    fleet: Fleet, pg: Any, settings: Settings, state: str, report: Callable[..., None]
) -> None:
    queues = {name: f"q{n}" for n, name in enumerate(SIGNALS)}
    workers = {name: fleet.start(queues={queue: 2}, pg_pool_size=4) for name, queue in queues.items()}
    for worker in workers.values():
        await worker.works()
    ids = {}
    if state != "idle":
        jobs = [NewJob(queue, "chaos.load", LOADS[state]) for queue in queues.values()]
        ids = dict(zip(queues, await enqueue(pg, settings, *jobs), strict=True))
        for job_id in ids.values():
            await eventually(partial(pg.fetchval, IN_CHUNK, str(job_id)))

    ends = dict(
        zip(SIGNALS, await asyncio.gather(*[_end(workers[name], SIGNALS[name]) for name in SIGNALS]), strict=True)
    )
    after = {name: await job_row(pg, job_id) for name, job_id in ids.items()}
    fleet.start(queues=dict.fromkeys(queues.values(), 2))
    rows = await finished(pg, list(ids.values()), within_s=30)

    wrong = await not_exactly_once(
        pg, [(i, chunk, 0) for i in ids.values() for chunk in range(int(str(LOADS[state]["chunks"])))] if ids else []
    )
    found = charged(rows)
    report(
        ends={name: f"code {end.code} in {end.took_s:.2f} s" for name, end in ends.items()},
        handed_over={name: row["handovers"] for name, row in after.items()},
        finally_=found,
        wrong_rows=wrong,
    )
    assert {name: end.code for name, end in ends.items()} == {"TERM": 0, "INT": 0, "TERM twice": 0, "KILL in drain": -9}
    assert max(end.took_s for end in ends.values()) < settings.dl_shutdown_grace_sec
    if state == "mid_chunk":
        assert ends["TERM twice"].took_s < ends["TERM"].took_s, "the second signal did not hurry it"
    for name, row in after.items():
        if name != "KILL in drain":
            assert (row["status"], row["attempt"], row["losses"], row["handovers"]) == ("queued", 0, 0, 1)
    assert (found["not succeeded"], found["attempts"], any(wrong.values())) == (0, 0, False)
    assert [row["losses"] for name, row in zip(ids, rows, strict=True) if name != "KILL in drain"] == [0] * 3 * bool(
        ids
    )


async def test_rolling_restarts_under_load_charge_nothing(
    *, fleet: Fleet, pg: Any, settings: Settings, size: Size, chance: random.Random, report: Callable[..., None]
) -> None:
    restarts, jobs, chunks = size.pick(small=(3, 60, 8), full=(20, 300, 20))
    ids = await enqueue(
        pg, settings, *[NewJob("chaos", "chaos.load", {"chunks": chunks, "sleep_s": 0.04}) for _ in range(jobs)]
    )
    worker = fleet.start()
    ends: list[End] = []
    for _ in range(restarts):
        await worker.works()
        await asyncio.sleep(chance.uniform(0, 1))
        successor = fleet.start()
        ends.append(await _end(worker, [signal.SIGTERM]))
        worker = successor
    unfinished = await pg.fetchval("select count(*) from dl_jobs where finished_at is null")
    rows = await finished(pg, ids, within_s=120)

    wrong = await not_exactly_once(pg, [(i, chunk, n) for i in ids for chunk in range(chunks) for n in range(5)])
    report(
        restarts=restarts,
        jobs=jobs,
        unfinished_after_the_last=unfinished,
        codes=dict(Counter(end.code for end in ends)),
        slowest_end_s=max(end.took_s for end in ends),
        handovers=sum(row["handovers"] for row in rows),
        charged=charged(rows),
        wrong_rows=wrong,
    )
    assert unfinished, "the load was over before the restarts were"
    assert {end.code for end in ends} == {0}
    assert max(end.took_s for end in ends) < settings.dl_shutdown_grace_sec
    assert not any(charged(rows).values())
    assert not any(wrong.values())


async def _end(worker: ServiceProcess, signals: Sequence[signal.Signals]) -> End:
    """Send signals, each once the one before is being acted upon, and wait for the end."""
    began_s = time.monotonic()
    for number, event in zip(signals, ("draining", "-"), strict=False):
        worker.signal(number)
        if len(signals) > 1 and event != "-":
            await worker.says(event)
    return End(await worker.ends(), time.monotonic() - began_s)
