"""A real process: it starts, works, and ends in order by signals, whatever its jobs do."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from dataloader.client import DataloaderClient, JobStatusView
from dataloader.config import Settings
from dataloader.storage.db import Connection
from tests.cli.shell import Service, environment, free_port, run, running


@asynccontextmanager
async def service(
    cwd: Path, settings: Settings, *command: str, **more: object
) -> AsyncIterator[tuple[Service, DataloaderClient]]:
    """Start the service and wait until it takes requests."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        running(cwd, *command, env=environment(settings, app_port=port, **more)) as process,
        DataloaderClient(url) as client,
    ):
        await process.logged("api listening")
        yield process, client


async def running_job(client: DataloaderClient, **args: object) -> UUID:
    """Trigger a job and return once it runs."""
    job = await client.trigger("noop", args, queue="noop")
    async with asyncio.timeout(20):
        async for state in client.watch(job.job_id, period_s=0.05):
            if state.status == "running":
                return job.job_id
    raise AssertionError(f"it ended as {state.status}")


async def row(pg: Connection, job_id: UUID) -> tuple[str, int, int, int]:
    """Return status, attempt, losses and hand-overs of a job."""
    found = await pg.fetchrow("select status, attempt, losses, handovers from dl_jobs where job_id = $1", job_id)
    assert found is not None
    return found["status"], found["attempt"], found["losses"], found["handovers"]


async def test_it_serves_runs_jobs_and_ends_with_0(tmp_path: Path, settings: Settings) -> None:
    async with service(tmp_path, settings) as (process, client):
        job = await client.trigger("noop", {"chunks": 2}, queue="noop")
        assert (await client.wait(job.job_id, timeout_s=20)).status == "succeeded"
        process.signal(signal.SIGINT)
        ended = await process.ended()
    assert ended.code == 0
    assert json.loads(ended.err.splitlines()[-1])["event"] == "stopped"
    assert not [line for line in ended.err.splitlines() if '"level": "error"' in line or "Traceback" in line]


async def test_a_signal_hands_running_jobs_over_uncharged(tmp_path: Path, settings: Settings, pg: Connection) -> None:
    async with service(tmp_path, settings) as (process, client):
        job_id = await running_job(client, chunks=10_000, sleep_s=0.05)
        process.signal()
        assert (await process.ended()).code == 0
    assert await row(pg, job_id) == ("queued", 0, 0, 1)


async def test_a_long_poll_is_answered_and_does_not_delay_the_end(tmp_path: Path, settings: Settings) -> None:
    async with service(tmp_path, settings) as (process, client):
        job_id = await running_job(client, chunks=10_000, sleep_s=0.05)
        async with asyncio.TaskGroup() as group:
            held: asyncio.Task[JobStatusView] = group.create_task(client.status(job_id, wait=60))
            await client.tasks()
            process.signal()
            ended = await process.ended()
    assert ended.code == 0
    assert held.result().job_id == job_id


async def test_a_second_signal_hands_a_stuck_job_over_at_once(
    tmp_path: Path, make_settings: Callable[..., Settings], pg: Connection
) -> None:
    settings = make_settings(dl_shutdown_grace_sec=600)
    async with service(tmp_path, settings) as (process, client):
        job_id = await running_job(client, block_s=600)
        process.signal()
        await process.logged("draining")
        process.signal()
        ended = await process.ended()
    assert ended.code == 0
    assert "stopping now" in ended.err
    assert await row(pg, job_id) == ("queued", 0, 0, 1)


async def test_a_stuck_job_does_not_hold_the_process_beyond_the_grace(
    tmp_path: Path, make_settings: Callable[..., Settings], pg: Connection
) -> None:
    settings = make_settings(dl_shutdown_grace_sec=2)
    async with service(tmp_path, settings) as (process, client):
        job_id = await running_job(client, block_s=600)
        process.signal()
        ended = await process.ended()
    assert ended.code == 0
    assert '"stopped"' in ended.err.splitlines()[-1]
    assert await row(pg, job_id) == ("queued", 0, 0, 1)


async def test_a_third_signal_ends_it_on_the_spot(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(dl_shutdown_grace_sec=600)
    async with service(tmp_path, settings) as (process, client):
        await running_job(client, block_s=600)
        process.signal()
        await process.logged("draining")
        process.signal()
        process.signal(signal.SIGINT)
        ended = await process.ended()
    assert ended.code in {0, 128 + signal.SIGINT, 128 + signal.SIGTERM}


async def test_roles_run_apart(tmp_path: Path, settings: Settings) -> None:
    async with (
        service(tmp_path, settings, "api") as (api, client),
        running(tmp_path, "worker", env=environment(settings)) as worker,
    ):
        await worker.logged("workers started")
        job = await client.trigger("noop", {}, queue="noop")
        assert (await client.wait(job.job_id, timeout_s=20)).status == "succeeded"
        for process in (worker, api):
            process.signal()
            assert (await process.ended()).code == 0


async def test_a_queue_in_vain_is_worth_a_warning(tmp_path: Path, settings: Settings) -> None:
    async with service(tmp_path, settings, workers_json='[{"queue": "nobodys"}]') as (process, _):
        assert "nobodys" in await process.logged("no known task runs")
        process.signal()
        assert (await process.ended()).code == 0


async def test_an_absent_database_is_waited_for(tmp_path: Path, settings: Settings) -> None:
    if settings.dl_db_dsn or settings.pg_host is None:
        pytest.skip("needs a server that is found by a directory")
    late = tmp_path / "late"
    port = free_port()
    env = environment(settings, app_port=port) | {"PG_HOST": str(late)}
    async with running(tmp_path, env=env) as process:
        await process.logged("database away, waiting for it")
        late.symlink_to(settings.pg_host)
        await process.logged("database is there")
        await process.logged("api listening")
        process.signal()
        assert (await process.ended()).code == 0


async def test_a_process_that_waits_for_its_database_ends_by_a_signal(tmp_path: Path) -> None:
    env = environment(pg_host="127.0.0.1", pg_port=free_port(), app_port=free_port())
    async with running(tmp_path, env=env) as process:
        await process.logged("database away, waiting for it")
        process.signal()
        ended = await process.ended()
    assert ended.code == 0
    assert ended.err.count("database away") == 1


async def test_the_shell_follows_a_job_to_its_end(tmp_path: Path, settings: Settings) -> None:
    async with service(tmp_path, settings) as (_, client):
        url = ("--url", client.base_url)
        env = environment()
        good = await run(tmp_path, "trigger", "noop", "chunks=2", "--watch", *url, env=env)
        bad = await run(
            tmp_path, "trigger", "noop", '--args={"fail_at": 1}', "--max-attempts=1", "--wait", *url, env=env
        )
        lines = good.out.splitlines()
        job_id = lines[0].split()[0]
        shown = await run(tmp_path, "jobs", "show", job_id, *url, env=env)
        listed = await run(tmp_path, "jobs", "list", "--status=succeeded", "--json", *url, env=env)
        canceled = await run(tmp_path, "jobs", "cancel", job_id, *url, env=env)
        unknown = await run(tmp_path, "trigger", "nope", *url, env=env)
    assert good.code == 0
    assert lines[-1].startswith("✓ succeeded")
    assert bad.code == 1
    assert "told to fail" in bad.out
    assert "created" in shown.out
    assert [job["job_id"] for job in json.loads(listed.out)] == [job_id]
    assert (canceled.code, canceled.out) == (1, "")
    assert "succeeded" in canceled.err
    assert unknown.code == 1
    assert "known are" in unknown.err


async def test_the_embedded_whole_survives_the_death_of_its_server(tmp_path: Path) -> None:
    port = free_port()
    env = environment(app_port=port, dl_data_dir=tmp_path / "data", dl_poll_sec=0.2)
    async with running(tmp_path, "up", env=env) as process, DataloaderClient(f"http://127.0.0.1:{port}") as client:
        await process.logged("starting embedded PostgreSQL")
        await process.logged("api listening")
        job_id = await running_job(client, chunks=60, sleep_s=0.05)
        pid = int((tmp_path / "data" / "pgdata" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        await process.logged("embedded server or its watchdog died")
        state = await client.wait(job_id, timeout_s=25)
        process.signal()
        ended = await process.ended()
    assert (state.status, state.attempt, state.losses) == ("succeeded", 1, 0)
    assert ended.code == 0
    assert "is up" in ended.out
    assert not (tmp_path / "data" / "pgdata" / "postmaster.pid").exists()


async def test_health_answers_while_a_job_blocks_its_loop(tmp_path: Path, settings: Settings) -> None:
    async with service(tmp_path, settings) as (process, client):
        await running_job(client, block_s=3)
        async with aiohttp.ClientSession() as session, session.get(f"{client.base_url}/health") as answer:
            assert answer.status == 200
        process.signal()
        assert (await process.ended()).code == 0
