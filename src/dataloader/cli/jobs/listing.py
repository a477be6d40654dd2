"""`jobs list`."""

from __future__ import annotations

from typing import Annotated

from rich.table import Table
from typer import Option

from dataloader.cli.arguments import instant
from dataloader.cli.options import AsJson, Embedded, Url
from dataloader.cli.screen import ago, number_text, out, print_models, status_text, table
from dataloader.cli.service import service
from dataloader.client import JobFilter, JobSummary
from dataloader.domain.jobs import JobStatus

Statuses = Annotated[
    list[JobStatus] | None, Option("--status", help="In this state; may be repeated.", show_default=False)
]
Queue = Annotated[str | None, Option("--queue", help="Of this queue.", show_default=False)]
Task = Annotated[str | None, Option("--task", help="Of this task.", show_default=False)]
Labels = Annotated[
    list[str] | None,
    Option("--label", metavar="NAME=VALUE", help="With this label; may be repeated.", show_default=False),
]
Since = Annotated[
    str | None, Option("--since", help="Created at 2026-01-31T08:00 (local time) or later.", show_default=False)
]
Limit = Annotated[int, Option("--limit", min=1, max=100_000, help="At most so many.")]


async def list_jobs(
    *,
    status: Statuses = None,
    queue: Queue = None,
    task: Task = None,
    label: Labels = None,
    since: Since = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    embedded: Embedded = False,
) -> None:
    """List jobs, newest first."""
    created_after = None if since is None else instant(since, option="--since")
    wanted = JobFilter(status=status or (), queue=queue, task=task, label=label or (), created_after=created_after)
    async with service(url, embedded=embedded) as client:
        jobs = [job async for job in client.jobs(limit=limit, **wanted)]
    if as_json:
        print_models(jobs)
    else:
        out().print(_table(jobs) if jobs else "No jobs.")


def _table(jobs: list[JobSummary]) -> Table:
    grid = table("Job", "Task", "Status", "Progress", "Attempt", "Created")
    for job in jobs:
        attempts = f"{job.attempt}/{job.max_attempts}" + (f" +{job.losses} lost" if job.losses else "")
        grid.add_row(str(job.job_id), job.task, status_text(job.status), _progress(job), attempts, ago(job.created_at))
    return grid


def _progress(job: JobSummary) -> str:
    at = job.progress
    if at is None or at.done is None:
        return "-"
    if at.total:
        return f"{number_text(at.done)}/{number_text(at.total)} ({at.done / at.total:.0%})"
    return f"{number_text(at.done)} {at.unit or ''}".rstrip()
