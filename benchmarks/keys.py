"""What lock keys cost: many of them, and one that hands over from job to job."""

from __future__ import annotations

from benchmarks import drain
from benchmarks.scale import CONCURRENCY
from dataloader.config import Settings
from dataloader.storage.db import connect

HANDOVER = """
with turns as (
  select extract(epoch from started_at - lag(finished_at) over (order by started_at)) * 1000 as ms from dl_jobs
)
select percentile_cont(0.5) within group (order by ms) from turns where ms is not null
"""


async def compare(settings: Settings, environment: dict[str, str], *, jobs: int, keys: int) -> tuple[float, float]:
    """Return the rates of jobs on that many lock keys and of jobs without, in jobs per second."""
    unkeyed = await drain.measure(settings, environment, jobs=jobs, concurrency=CONCURRENCY)
    keyed = await drain.measure(settings, environment, jobs=jobs, concurrency=CONCURRENCY, keys=keys)
    return keyed.rate, unkeyed.rate


async def handover(settings: Settings, environment: dict[str, str], *, jobs: int) -> float:
    """Return the median time from the end of a job to the start of the next one on its key, in ms."""
    await drain.measure(settings, environment, jobs=jobs, concurrency=CONCURRENCY, keys=1)
    connection = await connect(settings, purpose="bench")
    try:
        return float(await connection.fetchval(HANDOVER))
    finally:
        await connection.close()
