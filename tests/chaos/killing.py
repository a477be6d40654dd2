"""One job whose worker, or the child that runs it, is killed again and again; it goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

from dataloader.domain.jobs import NewJob
from tests.chaos.processes import Fleet, ServiceProcess
from tests.workers.harness import enqueue, eventually, finished

TRY_AGAIN_NOW = """
with tried as (
  update dl_jobs set available_at = clock_timestamp() where job_id = $1 and status = 'queued' returning true)
select exists (select from tried) or exists (select from dl_jobs where job_id = $1 and finished_at is not null)
"""
"""The pause before the next attempt is not what is tested."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What was seen.

    Attributes:
        row: Of the job, at its end.
        seen: What was asked for at each kill.
    """

    row: Any
    seen: list[Any]


async def kill_again_and_again(
    fleet: Fleet,
    pg: Any,
    job: NewJob,
    *,
    kills: int,
    chance: random.Random,
    within_s: float,
    ask: str,
    in_child: bool = False,
    **settings: Any,
) -> Killed:
    """Kill the worker of a job, each time a while after a run has committed something, and wait for the job's end.

    Args:
        fleet: Starts workers.
        pg: A connection.
        job: What they run; no other job is there.
        kills: How often.
        chance: Says after what while.
        within_s: The longest while.
        ask: Query of one value for the job's id, asked behind each kill.
        in_child: The job runs in a child: that and the worker are killed in turn.
        settings: Of the workers.
    """
    (job_id,) = await enqueue(pg, fleet.settings, replace(job, max_attempts=100))
    tasks = job.task if in_child else ""

    def start() -> ServiceProcess:
        return fleet.start(
            queues={job.queue: 1}, dl_default_lease_ttl_sec=2, pg_pool_size=4, dl_process_tasks=tasks, **settings
        )

    seen: list[Any] = []
    worker, epoch = start(), 0
    for kill in range(kills):
        epoch = await eventually(partial(_advanced, pg, job_id, epoch), within_s=60)
        await asyncio.sleep(chance.uniform(0, within_s))
        child = await asyncio.to_thread(_child_of, worker.pid) if in_child else None
        if child is None or kill % 2:
            await worker.kill()
            seen.append(await pg.fetchval(ask, job_id))
            worker = start()
        else:
            os.kill(child, signal.SIGKILL)
            seen.append(await pg.fetchval(ask, job_id))
            await eventually(lambda: pg.fetchval(TRY_AGAIN_NOW, job_id), within_s=20)
    (row,) = await finished(pg, [job_id], within_s=600)
    return Killed(row, seen)


async def _advanced(pg: Any, job_id: UUID, after: int) -> int | None:
    """Return the epoch of a later run that has committed a chunk, that of the job when all is done."""
    epoch: int | None = await pg.fetchval(
        "select coalesce((select max(epoch) from dl_chunks where job_id = $1 and epoch > $2),"
        " (select epoch from dl_jobs where job_id = $1 and finished_at is not null))",
        job_id,
        after,
    )
    return epoch


def _child_of(pid: int) -> int | None:
    """Return the child of a process, None if there is none, or no longer."""
    children = [text for path in Path(f"/proc/{pid}/task").glob("*/children") for text in path.read_text().split()]
    return int(children[0]) if children else None
