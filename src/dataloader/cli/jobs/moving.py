"""`jobs watch`, `jobs cancel` and `jobs retry`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated
from uuid import UUID

from rich.text import Text
from typer import Exit, Option

from dataloader.cli.ending import ExitCode, say_error, sentence
from dataloader.cli.jobs.arguments import JobId, JobIds
from dataloader.cli.options import AsJson, Embedded, Url
from dataloader.cli.screen import Screen, out, print_model, print_models, status_text
from dataloader.cli.service import service
from dataloader.cli.watch import exit_code, outcome, watch_job
from dataloader.client import JobStatusView
from dataloader.exceptions import ConflictError, NotFoundError

FromStart = Annotated[bool, Option("--from-start", help="Drop the checkpoint and begin again.")]


async def watch(job_id: JobId, *, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """Show a job's progress until it ends; exit with 0 only if it succeeds.

    On a terminal it is a bar with rate, remaining time and attempt; in a pipe, a line per change. With --json the
    progress goes to stderr and the outcome to stdout.
    """
    async with service(url, embedded=embedded) as client:
        state = await watch_job(client, job_id, console=Screen(stderr=True) if as_json else out())
    if as_json:
        print_model(state)
    else:
        out().print(outcome(state))
    raise Exit(exit_code(state))


async def cancel_jobs(job_ids: JobIds, *, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """Cancel jobs: queued ones at once, running ones at their next safe point."""
    async with service(url, embedded=embedded) as client:
        await _move(job_ids, client.cancel, as_json=as_json)


async def retry_jobs(
    job_ids: JobIds,
    *,
    from_start: FromStart = False,
    as_json: AsJson = False,
    url: Url = None,
    embedded: Embedded = False,
) -> None:
    """Queue failed, canceled or lost jobs again, with all their attempts; they go on from their checkpoint."""
    async with service(url, embedded=embedded) as client:
        await _move(job_ids, lambda job_id: client.retry(job_id, from_start=from_start), as_json=as_json)


async def _move(job_ids: Sequence[UUID], move: Callable[[UUID], Awaitable[JobStatusView]], *, as_json: bool) -> None:
    """Move job after job; one that cannot be moved does not stop the others, but is an exit code."""
    moved = [state for job_id in job_ids if (state := await _try(job_id, move)) is not None]
    if as_json:
        print_models(moved)
    else:
        for state in moved:
            out().print(_line(state))
    if len(moved) < len(job_ids):
        raise Exit(ExitCode.FAILED)


async def _try(job_id: UUID, move: Callable[[UUID], Awaitable[JobStatusView]]) -> JobStatusView | None:
    try:
        return await move(job_id)
    except (NotFoundError, ConflictError) as error:
        say_error(f"{job_id}: {sentence(error)}")
        return None


def _line(state: JobStatusView) -> Text:
    line = Text(f"{state.job_id}  ").append_text(status_text(state.status))
    asked = state.cancel_requested and not state.status.is_finished
    return line.append("  asked to stop", "default") if asked else line
