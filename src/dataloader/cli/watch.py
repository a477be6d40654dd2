"""A job on the screen until it ends: a live bar for people, lines for pipes."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from dataloader.cli.ending import ExitCode
from dataloader.cli.screen import amount_text, span, status_text
from dataloader.client import DataloaderClient, JobProgress, JobState, JobStatusView, WaitReason
from dataloader.domain.jobs import JobStatus
from dataloader.exceptions import DataloaderError, UnavailableError

_PERIOD_S = 1.0

_SILENT_S = 30.0
"""Three heartbeats of the default: a worker that shows no sign of life for longer may be dead."""


class View(Protocol):
    """Where the states of a job are shown."""

    def show(self, state: JobStatusView) -> None:
        """Show a state; it replaces the one before."""
        ...

    def note(self, kind: str, text: str) -> None:
        """Show why nothing happens; the text of one kind may change by the second."""
        ...


class Bar:
    """A bar that moves."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("", total=None, facts="", note="")

    def show(self, state: JobStatusView) -> None:
        """Show a state; how the job ended is said by who has it watched."""
        at = state.progress
        self._progress.update(
            self._bar,
            description=f"{state.task} {status_text(state.status).markup}",
            completed=at.done or 0 if at else 0,
            total=at.total if at else None,
            facts=escape(facts(state)),
            note="",
        )

    def note(self, kind: str, text: str) -> None:
        """Show why nothing happens."""
        self._progress.update(self._bar, note=Text(text, "yellow").markup)


class Lines:
    """One line for every change."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown = ""
        self._noted = ""

    def show(self, state: JobStatusView) -> None:
        """Show a state; how the job ended is said by who has it watched."""
        line = f"{state.status}  {facts(state)}".rstrip()
        if line != self._shown and not state.status.is_finished:
            self._print(line)
            self._shown, self._noted = line, ""

    def note(self, kind: str, text: str) -> None:
        """Show why nothing happens, once for every kind of reason."""
        if kind != self._noted:
            self._print(text)
            self._noted = kind

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, soft_wrap=True)


async def watch_job(
    client: DataloaderClient, job_id: UUID, *, console: Console, farewell: str | None = None
) -> JobStatusView:
    """Show a job until it ends; return how it ended. `farewell` is said when the watching is broken off."""
    with ExitStack() as stack:
        view = _view(stack, console)
        try:
            return await _follow(client, job_id, view)
        except asyncio.CancelledError:
            said = farewell or f"The job goes on; `dataloader jobs watch {job_id}` shows it again."
            stack.callback(console.print, f"\n{said}")
            raise


def _view(stack: ExitStack, console: Console) -> View:
    if not console.is_terminal:
        return Lines(console)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[facts]}"),
        TextColumn("{task.fields[note]}"),
    )
    return Bar(stack.enter_context(Progress(*columns, console=console, transient=True)))


async def _follow(client: DataloaderClient, job_id: UUID, view: View) -> JobStatusView:
    states = client.watch(job_id, period_s=_PERIOD_S, on_outage=lambda error: view.note(error.code, _outage(error)))
    async for state in states:
        view.show(state)
        if state.status is JobStatus.QUEUED and (wait := await _wait(client, job_id)):
            view.note(wait.reason, wait.message)
    return state


async def _wait(client: DataloaderClient, job_id: UUID) -> WaitReason | None:
    """Return what a queued job waits for, None if for nothing in particular."""
    try:
        waits = (await client.why(job_id)).waits_for
    except DataloaderError:
        return None
    return waits[0] if waits else None


def _outage(error: UnavailableError) -> str:
    return f"no answer, trying again: {error.message}"


def facts(state: JobState, *, now: datetime | None = None) -> str:
    """Return progress, rate, remaining time and attempt, as far as they are known."""
    silent_s = _silence_s(state, now or datetime.now(UTC))
    parts = [*_progress_parts(state.progress, moving=silent_s is None)] if state.progress else []
    if silent_s is not None:
        parts.append(f"no sign of life for {span(silent_s)}; when its lease ends, it is taken over")
    if state.attempt > 1 or state.losses:
        parts.append(f"attempt {state.attempt} of {state.max_attempts}")
    if state.losses:
        parts.append(f"{state.losses} {'worker' if state.losses == 1 else 'workers'} lost")
    if state.cancel_requested and not state.status.is_finished:
        parts.append("asked to stop")
    if state.error and state.status is JobStatus.QUEUED:
        parts.append(f"last error: {state.error.message}")
    return "  ".join(parts)


def _silence_s(state: JobState, now: datetime) -> float | None:
    """Return for how long a running job has been silent, None if that is not long."""
    if state.status is not JobStatus.RUNNING or state.heartbeat_at is None:
        return None
    silent_s = (now - state.heartbeat_at).total_seconds()
    return silent_s if silent_s > _SILENT_S else None


def _progress_parts(at: JobProgress, *, moving: bool) -> list[str]:
    amount = amount_text(at.done, at.unit) + (f"/{amount_text(at.total, at.unit)}" if at.total is not None else "")
    rate = f"{amount_text(at.rate, at.unit)}/s" if at.rate and moving else None
    eta = f"{span(at.eta_s)} left" if at.eta_s and moving else None
    unit = "" if at.unit == "bytes" else at.unit or ""
    counted = f"{amount} {unit}".rstrip() if at.done is not None else None
    return [part for part in (counted, rate, eta, at.message) if part]


def outcome(state: JobStatusView) -> Text:
    """Return how a job ended, on a line or two."""
    words = Text("✓ " if state.status is JobStatus.SUCCEEDED else "✗ ")
    words.append_text(status_text(state.status))
    if state.started_at and state.finished_at:
        words.append(f" after {span((state.finished_at - state.started_at).total_seconds())}")
    if described := facts(state):
        words.append(f"  {described}")
    if state.error and state.status is not JobStatus.SUCCEEDED:
        words.append(f"\n{state.error.type or 'Error'}: {state.error.message}", "red")
    if state.result is not None:
        words.append(f"\n{json.dumps(state.result, ensure_ascii=False)}")
    return words


def exit_code(state: JobStatusView) -> ExitCode:
    """Return what the shell is told of an outcome."""
    return ExitCode.OK if state.status is JobStatus.SUCCEEDED else ExitCode.FAILED
