"""`jobs show`: one job with what it waits for and its history."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dataloader.cli.jobs.arguments import JobId
from dataloader.cli.options import AsJson, Embedded, Url
from dataloader.cli.screen import ago, instant_text, out, print_json, status_text, table
from dataloader.cli.service import service
from dataloader.cli.watch import facts
from dataloader.client import JobDetail, JobEventView, WaitReason
from dataloader.domain.jobs import JobStatus

_DATA_WIDTH = 160


async def show_job(job_id: JobId, *, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """Show all that is known of a job: its fields, what it waits for, its history."""
    async with service(url, embedded=embedded) as client:
        job = await client.job(job_id)
        events = [event async for event in client.events(job_id)]
        waits = (await client.why(job_id)).waits_for if job.status is JobStatus.QUEUED else []
    if as_json:
        print_json(job.model_dump(mode="json") | {"events": _plain(events), "waits_for": _plain(waits)})
    else:
        out().print(Group(_fields(job, waits), "", _history(events)))


def _plain(models: Sequence[BaseModel]) -> list[dict[str, object]]:
    return [model.model_dump(mode="json") for model in models]


def _fields(job: JobDetail, waits: list[WaitReason]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _rows(job, waits):
        grid.add_row(name, value)
    return grid


def _rows(job: JobDetail, waits: list[WaitReason]) -> Iterator[tuple[str, RenderableType]]:
    yield "Job", str(job.job_id)
    yield "Task", Text(f"{job.task} on {job.queue}")
    yield "Status", status_text(job.status).append(f"  {facts(job)}", "default")
    for wait in waits:
        yield "Waits for", Text(wait.message, "yellow")
    if job.error:
        yield "Error", Text(f"{job.error.type or 'Error'}: {job.error.message}", "red")
    for name, value in _documents(job):
        yield name, Text(json.dumps(value, ensure_ascii=False))
    yield "Attempt", f"{job.attempt} of {job.max_attempts}, {job.losses} lost, {job.handovers} handed over"
    yield "Priority", str(job.priority)
    for name, text in (("Lock key", job.lock_key), ("Partition", job.partition_key), ("Created by", job.created_by)):
        if text:
            yield name, Text(text)
    yield from _instants(job)
    if job.error and job.error.traceback:
        yield "Traceback", Text(job.error.traceback, "dim")


def _documents(job: JobDetail) -> Iterator[tuple[str, object]]:
    for name, value in (
        ("Arguments", job.args),
        ("Labels", job.labels),
        ("Checkpoint", job.checkpoint),
        ("Result", job.result),
    ):
        if value:
            yield name, value


def _instants(job: JobDetail) -> Iterator[tuple[str, str]]:
    for name, at in (
        ("Created", job.created_at),
        ("Due", job.available_at if job.status is JobStatus.QUEUED else None),
        ("Started", job.started_at),
        ("Heartbeat", job.heartbeat_at if job.status is JobStatus.RUNNING else None),
        ("Finished", job.finished_at),
    ):
        if at is not None:
            yield name, f"{instant_text(at)}  ({ago(at)})"


def _history(events: list[JobEventView]) -> Table:
    grid = table("When", "What", "Status", "Attempt", "By", "Facts")
    for event in events:
        grid.add_row(
            instant_text(event.at),
            Text(event.kind),
            status_text(event.status),
            str(event.attempt),
            Text(event.actor or "-"),
            Text(_short(", ".join(_facts(event.data))), "dim"),
        )
    return grid


def _facts(data: Mapping[str, object]) -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict) and "message" in value:
            yield f"{value.get('type') or name}: {value['message']}"
        elif value is not None:
            yield f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"


def _short(text: str) -> str:
    return text if len(text) <= _DATA_WIDTH else f"{text[:_DATA_WIDTH]}…"
