"""What the commands print of what the service answers, and the codes they end with."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import UUID

import pytest
from typer import Exit

from dataloader.cli import fleet
from dataloader.cli.banner import banner
from dataloader.cli.jobs.listing import list_jobs
from dataloader.cli.jobs.moving import cancel_jobs, retry_jobs, watch
from dataloader.cli.jobs.showing import show_job
from dataloader.cli.screen import ago, number_text, out, span
from dataloader.cli.service import api_url
from dataloader.cli.trigger import trigger
from dataloader.config import load_settings
from tests.cli.shell import environment, free_port, run
from tests.client.stub import AT, JOB_ID, Stub, job_state, job_summary, task

Screen = pytest.CaptureFixture[str]

QUEUE = {
    "queue": "noop",
    "paused": False,
    "paused_at": None,
    "paused_by": None,
    "ready": 1,
    "waiting": 2,
    "running": 3,
    "workers": 1,
    "slots": 4,
    "oldest_due_s": 75.0,
}
WORKER = {
    "worker_id": str(JOB_ID),
    "host": "box",
    "pid": 7,
    "version": "0.1.0",
    "queues": {"noop": 4},
    "tasks": ["noop"],
    "alive": True,
    "stopping": False,
    "started_at": AT,
    "heartbeat_at": AT,
    "expires_at": AT,
}
ERROR = {"type": "SourceError", "message": "HTTP 502", "traceback": "Traceback: [red]"}
DETAIL = {
    "args": {"day": "2025-04-01"},
    "max_losses": 3,
    "handovers": 1,
    "epoch": 2,
    "worker_id": None,
    "lease_expires_at": None,
    "timeout_s": None,
    "stall_timeout_s": None,
    "hold_reason": None,
    "blocks_partition": False,
    "checkpoint": {"day": "2025-04-02"},
    "result": None,
}


def event(event_id: int, kind: str, **data: object) -> dict[str, object]:
    return {
        "event_id": event_id,
        "at": AT,
        "kind": kind,
        "status": "queued",
        "epoch": 1,
        "attempt": 1,
        "actor": None,
        "data": data,
    }


async def test_tasks_show_their_arguments_and_mark_the_required(stub: Stub, capsys: Screen) -> None:
    schema = {"properties": {"start": {}, "end": {}}, "required": ["start"]}
    stub.answer({"tasks": [task("a", None, args_schema=schema), task("b", "q"), task("c", "q", args_schema={})]})
    await fleet.list_tasks(url=stub.url)
    _, a, b, c = capsys.readouterr().out.splitlines()
    assert a.split() == ["a", "any", "start*,", "end", "Do", "it."]
    assert b.split()[:3] == ["b", "q", "any"]
    assert c.split()[:3] == ["c", "q", "any"]


async def test_queues_show_who_serves_them(stub: Stub, capsys: Screen) -> None:
    idle = QUEUE | {"queue": "idle", "workers": 0, "oldest_due_s": None}
    paused = QUEUE | {"queue": "p", "paused": True, "paused_by": "http:me"}
    stub.answer({"queues": [QUEUE, idle, paused]})
    await fleet.list_queues(url=stub.url)
    text = capsys.readouterr().out
    assert "1m 15s" in text
    assert "no worker" in text
    assert "paused by http:me" in text


async def test_a_queue_is_paused_and_resumed(stub: Stub, capsys: Screen) -> None:
    stub.answer(QUEUE | {"paused": True})
    stub.answer(QUEUE)
    await fleet.pause("noop", url=stub.url)
    await fleet.resume("noop", url=stub.url, as_json=True)
    text = capsys.readouterr().out
    assert text.startswith("noop  paused\n")
    assert json.loads(text.partition("\n")[2])["paused"] is False


async def test_workers_show_their_state(stub: Stub, capsys: Screen) -> None:
    stub.answer({"workers": [WORKER, WORKER | {"stopping": True}, WORKER | {"alive": False}]})
    await fleet.list_workers(url=stub.url)
    _, alive, stopping, gone = capsys.readouterr().out.splitlines()
    assert "alive" in alive
    assert "noop x4" in alive
    assert "stopping" in stopping
    assert "gone" in gone


async def test_empty_lists_say_so(stub: Stub, capsys: Screen) -> None:
    stub.answer({"queues": [], "workers": [], "jobs": [], "next_cursor": None})
    await fleet.list_queues(url=stub.url)
    await fleet.list_workers(url=stub.url)
    await list_jobs(url=stub.url)
    assert capsys.readouterr().out.splitlines() == ["No queues.", "No workers.", "No jobs."]


async def test_lists_for_scripts_are_json(stub: Stub, capsys: Screen) -> None:
    stub.answer({"queues": [QUEUE], "workers": [WORKER], "tasks": [task("noop", "noop")]})
    for show in (fleet.list_queues, fleet.list_workers, fleet.list_tasks):
        await show(url=stub.url, as_json=True)
        assert isinstance(json.loads(capsys.readouterr().out), list)


async def test_jobs_are_listed_with_their_progress(stub: Stub, capsys: Screen) -> None:
    half = {"done": 5, "total": 10, "unit": "days"}
    counted = {"done": 1234.0, "total": None, "unit": "rows"}
    jobs = [job_summary(progress=half), job_summary(progress=counted, losses=1), job_summary()]
    stub.answer({"jobs": jobs, "next_cursor": None})
    await list_jobs(url=stub.url, since="2026-01-01T00:00+00:00", label=["a=b"])
    _, first, second, third = capsys.readouterr().out.splitlines()
    assert "5/10 (50%)" in first
    assert "1,234 rows" in second
    assert "+1 lost" in second
    assert " - " in third
    assert ("created_after", "2026-01-01T00:00:00+00:00") in stub.asked[0].query


async def test_a_waiting_job_is_shown_with_all_there_is(stub: Stub, capsys: Screen) -> None:
    stub.answer(job_summary(status="queued", error=ERROR, labels={"team": "a"}, lock_key="[k]") | DETAIL)
    events = [event(1, "created"), event(2, "retry_scheduled", error=ERROR, delay_s=30, note="n" * 200)]
    stub.answer({"events": events, "next_after": None})
    stub.answer({"job_id": str(JOB_ID), "status": "queued", "waits_for": [{"reason": "not_due", "message": "later"}]})
    await show_job(JOB_ID, url=stub.url)
    text = capsys.readouterr().out
    for part in ("later", "SourceError: HTTP 502", "[k]", '{"team": "a"}', "delay_s=30", "…", "Traceback: [red]"):
        assert part in text


async def test_a_job_for_scripts_has_its_events_with_it(stub: Stub, capsys: Screen) -> None:
    stub.answer(job_summary(status="running") | DETAIL)
    stub.answer({"events": [event(1, "created")], "next_after": None})
    await show_job(JOB_ID, url=stub.url, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert (document["checkpoint"], len(document["events"]), document["waits_for"]) == ({"day": "2025-04-02"}, 1, [])


async def test_jobs_are_moved_one_by_one_and_a_refused_one_is_a_code(stub: Stub, capsys: Screen) -> None:
    stub.answer(job_state("running", cancel_requested=True))
    stub.problem(409, "job_state_conflict", "It is succeeded")
    with pytest.raises(Exit) as caught:
        await cancel_jobs([JOB_ID, UUID(int=1)], url=stub.url)
    screen = capsys.readouterr()
    assert caught.value.exit_code == 1
    assert screen.out == f"{JOB_ID}  running  asked to stop\n"
    assert screen.err == f"error: {UUID(int=1)}: It is succeeded\n"


async def test_a_retry_may_begin_anew(stub: Stub, capsys: Screen) -> None:
    stub.answer(job_state("queued"))
    await retry_jobs([JOB_ID], from_start=True, as_json=True, url=stub.url)
    assert stub.asked[0].body == {"from_start": True}
    assert [job["status"] for job in json.loads(capsys.readouterr().out)] == ["queued"]


@pytest.mark.parametrize("as_json", [True, False])
async def test_a_watch_ends_with_the_outcome(stub: Stub, capsys: Screen, *, as_json: bool) -> None:
    stub.answer(job_state("lost"))
    with pytest.raises(Exit) as caught:
        await watch(JOB_ID, url=stub.url, as_json=as_json)
    screen = capsys.readouterr()
    assert caught.value.exit_code == 1
    assert (json.loads(screen.out)["status"] if as_json else screen.out.splitlines()[-1]).endswith("lost")


async def test_a_used_key_is_said(stub: Stub, capsys: Screen) -> None:
    stub.answer({"job_id": str(JOB_ID), "status": "succeeded"}, 200)
    await trigger("noop", ["n=1"], queue="noop", key="k", url=stub.url)
    assert "had been used before" in capsys.readouterr().out


async def test_a_trigger_for_scripts_prints_one_document(stub: Stub, capsys: Screen) -> None:
    stub.answer({"job_id": str(JOB_ID), "status": "queued"}, 201)
    await trigger("noop", queue="noop", as_json=True, url=stub.url)
    assert json.loads(capsys.readouterr().out) == {"job_id": str(JOB_ID), "status": "queued", "created": True}
    stub.answer(job_state("succeeded"))
    with pytest.raises(Exit) as caught:
        await trigger("noop", queue="noop", as_json=True, watch=True, url=stub.url)
    assert caught.value.exit_code == 0
    assert json.loads(capsys.readouterr().out)["status"] == "succeeded"


def test_the_address_of_the_api_is_one_that_can_be_called() -> None:
    hosts = {"0.0.0.0": "127.0.0.1", "::1": "[::1]", "127.0.0.2": "127.0.0.2"}  # noqa: S104 - not bound
    for host, shown in hosts.items():
        settings = load_settings(_env_file=None, app_host=host, dl_allow_anonymous=True, app_port=80)
        assert api_url(settings) == f"http://{shown}:80"


@pytest.mark.parametrize("embedded", [True, False])
def test_the_banner_tells_where_everything_is(capsys: Screen, *, embedded: bool) -> None:
    out().print(banner(load_settings(_env_file=None), port=9000, embedded=embedded))
    text = capsys.readouterr().out
    assert "http://127.0.0.1:9000/api/v1" in text
    assert "--watch --url http://127.0.0.1:9000" in text
    assert (".dataloader" in text) is embedded


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0s"), (59.6, "1m"), (3_661, "1h 1m"), (90_000, "1d 1h"), (86_401, "1d 1s")]
)
def test_a_span_shows_its_two_largest_units(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_small_things_read_well() -> None:
    assert [number_text(n) for n in (None, 3.0, 1234.5, 0.25)] == ["-", "3", "1,234", "0.2"]
    assert ago(None) == "-"


async def test_commands_can_do_without_a_service_on_the_embedded_database(tmp_path: Path) -> None:
    env = environment(dl_data_dir=tmp_path / "data", app_port=free_port())
    early = await run(tmp_path, "jobs", "list", "--embedded", env=env)
    migrated = await run(tmp_path, "migrate", "--embedded", env=env)
    triggered = await run(tmp_path, "trigger", "noop", "--embedded", "--json", env=env)
    listed = await run(tmp_path, "jobs", "list", "--embedded", "--json", env=env)
    assert (early.code, early.out) == (1, "")
    assert "dataloader migrate" in early.err
    assert (migrated.code, triggered.err, listed.err) == (0, "", "")
    assert [job["job_id"] for job in json.loads(listed.out)] == [json.loads(triggered.out)["job_id"]]
    assert not (tmp_path / "data" / "pgdata" / "postmaster.pid").exists()
