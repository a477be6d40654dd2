"""The drain rate beside a great many rows that are none of the claim's business."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import drain
from benchmarks.pipelines import QUEUE, TASK
from dataloader.config import Settings
from dataloader.storage.db import Connection

CONCURRENCY = 1_000


@dataclass(frozen=True, slots=True)
class Case:
    """Rows beside the jobs that are measured.

    Attributes:
        name: What they are, after their number.
        rows: How many at scale 1.
        columns: Columns that are filled.
        values: Their values for row `n`, from 0.
    """

    name: str
    rows: int
    columns: str
    values: str


CASES = (
    Case("future jobs", 1_000_000, "available_at", "now() + interval '1 day'"),
    Case(
        "finished jobs",
        1_000_000,
        "status, attempt, epoch, available_at, started_at, finished_at",
        "'succeeded', 1, 1, now() - interval '1 hour', now() - interval '1 hour', now() - interval '1 hour'",
    ),
    Case("jobs of lower priority", 1_000_000, "ready, priority", "true, 200"),
    Case("jobs ready in another queue", 1_000_000, "ready, queue", "true, 'bench2'"),
    Case(
        "jobs behind one busy lock_key",
        100_000,
        "lock_key, status, attempt, epoch, worker_id, started_at, lease_expires_at",
        "'busy', case n when 0 then 'running' else 'queued' end, (n = 0)::integer, (n = 0)::integer, "
        "case n when 0 then gen_random_uuid() end, case n when 0 then now() end, "
        "case n when 0 then now() + interval '1 day' end",
    ),
    Case("ready jobs of an unknown task, better placed", 100_000, "ready, priority, task", "true, 1, 'bench.unknown'"),
)


async def insert(connection: Connection, case: Case, rows: int) -> None:
    """Insert the rows of a case, and leave the server at rest."""
    values = {"queue": f"'{QUEUE}'", "task": f"'{TASK}'"}
    kept = {name: value for name, value in values.items() if name not in case.columns.split(", ")}
    await connection.execute(
        f"insert into dl_jobs ({', '.join([*kept, case.columns])}) "
        f"select {', '.join([*kept.values(), case.values])} from generate_series(0, $1::integer - 1) n",
        rows,
    )
    await connection.execute("vacuum analyze dl_jobs")
    await connection.execute("checkpoint")


async def compare(
    settings: Settings, environment: dict[str, str], case: Case, *, jobs: int, rows: int
) -> tuple[float, float]:
    """Return the rates beside the rows and without them, in jobs per second."""
    without = await drain.measure(settings, environment, jobs=jobs, concurrency=CONCURRENCY, beside=_rest)
    beside = await drain.measure(
        settings,
        environment,
        jobs=jobs,
        concurrency=CONCURRENCY,
        beside=lambda connection: insert(connection, case, rows),
    )
    return beside.rate, without.rate


async def _rest(connection: Connection) -> None:
    await connection.execute("checkpoint")
