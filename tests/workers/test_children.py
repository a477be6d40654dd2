"""Pipelines in child processes keep what inline ones promise, and what kills them ends nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from uuid import UUID

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import SettingsError
from dataloader.storage.db import Connection
from dataloader.workers.pipelines.registry import Registry, load_all
from tests.workers.harness import enqueue, events, eventually, finished, job_row, running_service

MODULE = "tests.workers.in_children"


@pytest.fixture
async def settings(make_settings: Callable[..., Settings], pg: Connection) -> Settings:
    """Children that find the pipelines, and a table to write to."""
    await pg.execute("create table counted (n int, pid int)")
    return make_settings(
        workers_json=[{"queue": "q", "concurrency": 4}],
        dl_pipelines=(MODULE,),
        dl_cancel_grace_sec=0.5,
        dl_child_memory_mb=512,
    )


@pytest.fixture
def registry() -> Registry:
    return load_all([MODULE])


def _value(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _is_alive(pid: int) -> bool:
    """Return whether a process exists, a zombie too."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def _started(pg: Connection, job_id: UUID) -> int:
    """Wait for a chunk; return the process that wrote it."""
    return int(await eventually(lambda: pg.fetchval("select max(pid) from counted")))


@pytest.mark.parametrize("task", ["count.inline", "count.process"])
async def test_a_failed_attempt_goes_on_at_its_checkpoint(
    pg: Connection, settings: Settings, registry: Registry, task: str
) -> None:
    async with running_service(settings, registry):
        (row,) = await finished(pg, await enqueue(pg, settings, NewJob("q", task, {"upto": 6, "fail_at": 3})))

    assert (row["status"], _value(row["result"])) == ("succeeded", {"attempt": 2})
    assert [r["n"] for r in await pg.fetch("select n from counted order by n")] == list(range(6))
    pids = {r["pid"] for r in await pg.fetch("select pid from counted")}
    assert (os.getpid() in pids, len(pids)) == ((True, 1) if task == "count.inline" else (False, 2))


async def test_a_killed_child_costs_an_attempt_and_no_row(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", "count.process", {"upto": 6, "die_at": 3}))
        (row,) = await finished(pg, ids)

    assert _value(row["result"]) == {"attempt": 2}
    assert [r["n"] for r in await pg.fetch("select n from counted order by n")] == list(range(6))
    told = await pg.fetchval("select string_agg(data::text, ' ') from dl_job_events where job_id = $1", ids[0])
    assert "SIGKILL" in told
    assert "512 MB" in told


@pytest.mark.parametrize("task", ["count.inline", "count.process"])
async def test_a_cancel_ends_a_run_at_its_next_safe_point(
    pg: Connection, settings: Settings, registry: Registry, task: str
) -> None:
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", task, {"upto": 10_000, "pause_s": 0.02}))
        await _started(pg, ids[0])
        await pg.execute("select dl_cancel($1, 'test')", ids[0])
        (row,) = await finished(pg, ids)

    assert row["status"] == "canceled"


@pytest.mark.parametrize("task", ["count.inline", "count.process"])
async def test_a_shutdown_hands_a_run_over_uncharged(
    pg: Connection, settings: Settings, registry: Registry, task: str
) -> None:
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", task, {"upto": 10_000, "pause_s": 0.02}))
        pid = await _started(pg, ids[0])

    row = await job_row(pg, ids[0])
    assert (row["status"], row["attempt"]) == ("queued", 0)
    assert "handed_over" in await events(pg, ids[0])
    assert task == "count.inline" or not _is_alive(pid)


@pytest.mark.parametrize("task", ["count.inline", "count.process"])
async def test_a_run_whose_lease_is_gone_commits_nothing_more(
    pg: Connection, settings: Settings, registry: Registry, task: str
) -> None:
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", task, {"upto": 40, "pause_s": 0.02}))
        await _started(pg, ids[0])
        await pg.execute("update dl_jobs set epoch = epoch + 1, lease_expires_at = now() where job_id = $1", ids[0])
        await finished(pg, ids)

    assert [r["n"] for r in await pg.fetch("select n from counted order by n")] == list(range(40))


async def test_a_child_that_is_deaf_to_cancel_is_killed(pg: Connection, settings: Settings, registry: Registry) -> None:
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, NewJob("q", "deaf"))
        await eventually(
            lambda: pg.fetchval("select progress->>'message' = 'deaf' from dl_jobs where job_id = $1", ids[0])
        )
        await pg.execute("select dl_cancel($1, 'test')", ids[0])
        (row,) = await finished(pg, ids)

    assert row["status"] == "canceled"


async def test_a_plain_function_returns_its_result_and_finds_no_password(
    pg: Connection, settings: Settings, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PG_PASSWORD", "hidden")
    async with running_service(settings, registry):
        (row,) = await finished(pg, await enqueue(pg, settings, NewJob("q", "plain.function", {"numbers": [1, 2]})))

    assert _value(row["result"]) == {"sum": 3, "environment": []}


async def test_what_a_child_prints_and_loads_is_told_by_its_parent(
    pg: Connection, settings: Settings, registry: Registry, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running_service(settings, registry) as service:
        jobs = [NewJob("q", "plain.function", {"numbers": [1]}), NewJob("q", "count.process", {"upto": 3})]
        said, counted = await enqueue(pg, settings, *jobs)
        await finished(pg, [said, counted])
        rows = service.ctx.metrics.registry.get_sample_value("dataloader_rows_loaded_total", {"task": "count.process"})

    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "said by the pipeline" in line]
    assert [(line["job_id"], line["text"]) for line in lines] == [(str(said), "said by the pipeline")]
    assert rows == 3


async def test_a_crash_of_the_interpreter_is_an_error_that_names_the_signal(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    async with running_service(settings, registry):
        (row,) = await finished(pg, await enqueue(pg, settings, NewJob("q", "crash")))

    assert row["status"] == "failed"
    assert "SIGSEGV" in str(row["error"])


async def test_a_task_that_the_operator_names_runs_in_a_child(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    settings = settings.model_copy(update={"dl_process_tasks": ("count.inline",)})
    async with running_service(settings, registry):
        await finished(pg, await enqueue(pg, settings, NewJob("q", "count.inline", {"upto": 2})))

    assert os.getpid() not in {row["pid"] for row in await pg.fetch("select pid from counted")}


async def test_a_task_that_nobody_knows_cannot_be_named_for_children(settings: Settings, registry: Registry) -> None:
    settings = settings.model_copy(update={"dl_process_tasks": ("cuont.inline",)})

    with pytest.raises(SettingsError, match="names cuont"):
        async with running_service(settings, registry):
            pass


async def test_children_beyond_the_limit_wait_for_their_turn(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    settings = settings.model_copy(update={"dl_children_max": 1})
    async with running_service(settings, registry):
        ids = await enqueue(pg, settings, *[NewJob("q", "count.process", {"upto": 4, "pause_s": 0.01})] * 2)
        await finished(pg, ids)

    order = [row["pid"] for row in await pg.fetch("select pid from counted order by ctid")]
    assert len(order) == 8
    assert len(set(order[:4])) == len(set(order[4:])) == 1


async def test_a_plain_generator_goes_on_at_its_checkpoint(
    pg: Connection, settings: Settings, registry: Registry
) -> None:
    async with running_service(settings, registry):
        (row,) = await finished(pg, await enqueue(pg, settings, NewJob("q", "plain.generator")))

    assert _value(row["result"]) == {"began_at": 2}


@pytest.mark.parametrize(("task", "reason"), [("greedy", "MemoryError"), ("unfit", "JSON")])
async def test_a_child_that_asks_too_much_fails_with_the_reason(
    pg: Connection, settings: Settings, registry: Registry, task: str, reason: str
) -> None:
    async with running_service(settings, registry):
        (row,) = await finished(pg, await enqueue(pg, settings, NewJob("q", task)))

    assert row["status"] == "failed"
    assert reason in str(row["error"])
