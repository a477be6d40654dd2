"""What a person sees of a job, on a terminal and in a pipe."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest

from dataloader.cli.screen import Screen
from dataloader.cli.watch import exit_code, facts, outcome, watch_job
from dataloader.client import DataloaderClient, JobStatusView, Patience
from tests.client.stub import JOB_ID, Stub, job_state

HALF = {"done": 10, "total": 20, "unit": "days", "message": "2025-04-10", "rate": 2.5, "eta_s": 4.0}
NO_WORKER = {"reason": "no_worker", "message": "no live worker serves queue noop"}


async def shown(stub: Stub, *, terminal: bool) -> tuple[str, JobStatusView]:
    screen = io.StringIO()
    console = Screen(file=screen, force_terminal=terminal, width=110, color_system=None)
    async with DataloaderClient(stub.url, patience=Patience(tries=1, initial_s=0.001)) as client:
        state = await watch_job(client, JOB_ID, console=console)
    return screen.getvalue(), state


def play(stub: Stub) -> None:
    stub.answer(job_state("queued"))
    stub.answer({"job_id": str(JOB_ID), "status": "queued", "waits_for": [NO_WORKER]})
    stub.answer(job_state(progress=HALF, attempt=2, heartbeat_at=datetime.now(UTC).isoformat()))
    stub.answer(job_state("succeeded", progress=HALF | {"done": 20, "eta_s": 0.0}, finished_at="2026-01-31T08:00:08Z"))


async def test_a_pipe_gets_a_line_per_change_until_the_end(stub: Stub) -> None:
    play(stub)
    text, state = await shown(stub, terminal=False)
    assert text.splitlines() == [
        "queued",
        "no live worker serves queue noop",
        "running  10/20 days  2.5/s  4s left  2025-04-10  attempt 2 of 5",
    ]
    assert state.status == "succeeded"


async def test_a_terminal_gets_a_bar(stub: Stub) -> None:
    play(stub)
    text, _ = await shown(stub, terminal=True)
    assert "noop running" in text
    assert "10/20 days" in text
    assert "\x1b[" in text


async def test_texts_of_a_pipeline_are_no_markup(stub: Stub) -> None:
    stub.answer(job_state("succeeded", progress=HALF | {"message": "[/red] [bold]x"}))
    text, _ = await shown(stub, terminal=True)
    assert "[/red] [bold]x" in text


@pytest.mark.parametrize("terminal", [True, False])
async def test_texts_of_a_pipeline_give_the_terminal_no_orders(stub: Stub, terminal: bool) -> None:
    said = "a\x1b]0;title\x07b\x9b2Jc\rd"
    for status in ("running", "succeeded"):
        stub.answer(job_state(status, progress={"message": said}, heartbeat_at=datetime.now(UTC).isoformat()))

    text, _ = await shown(stub, terminal=terminal)

    assert "a]0;titleb2Jcd" in text
    assert not {"\x1b]", "\x07", "\x9b"} & {text[n : n + size] for n in range(len(text)) for size in (1, 2)}


async def test_an_outage_is_shown_and_borne(stub: Stub) -> None:
    stub.answer(job_state())
    stub.problem(503, "database_unavailable", "PostgreSQL cannot be reached")
    stub.answer(job_state("failed"))
    text, _ = await shown(stub, terminal=False)
    assert "no answer, trying again: PostgreSQL cannot be reached" in text


def test_a_running_job_whose_worker_is_silent_has_no_time_left_to_tell() -> None:
    state = view("running", progress=HALF, heartbeat_at="2026-01-31T08:00:00Z")
    at = datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert "4s left" in facts(state, now=at + timedelta(seconds=20))
    silent = facts(state, now=at + timedelta(seconds=75))
    assert silent == "10/20 days  2025-04-10  no sign of life for 1m 15s; when its lease ends, it is taken over"


def view(status: str = "succeeded", **more: object) -> JobStatusView:
    return JobStatusView.model_validate(job_state(status, **more))


def test_an_outcome_tells_how_long_it_took_and_what_came_out() -> None:
    state = view(progress=HALF | {"done": 20}, finished_at="2026-01-31T09:01:00Z", result={"rows": 3})
    assert outcome(state).plain == ('✓ succeeded after 1h 1m  20/20 days  2.5/s  4s left  2025-04-10\n{"rows": 3}')


def test_an_outcome_tells_why_it_failed() -> None:
    error = {"type": "SourceError", "message": "HTTP 502", "traceback": None}
    assert outcome(view(status="failed", error=error)).plain.endswith("SourceError: HTTP 502")


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("failed", 1), ("canceled", 1), ("lost", 1)])
def test_the_shell_learns_the_outcome(status: str, code: int) -> None:
    assert exit_code(view(status=status)) == code
