"""While the database is away: 503 within five seconds, recovery by itself, one clear log line."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import uuid4

import httpx2
import pytest
from sqlalchemy import text

from dataloader.config import Settings
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import Connection
from tests.api.proxy import Proxy, proxied
from tests.api.scene import Scene, opened, until_waiting
from tests.storage.scene import until

JOB = {"queue": "q", "task": "any.echo", "idempotency_key": "k"}


@pytest.fixture
async def proxy(settings: Settings) -> AsyncIterator[Proxy]:
    """A way to this test's database."""
    async with proxied(settings) as proxy:
        yield proxy


@pytest.fixture
async def away(make_settings: Callable[..., Settings], proxy: Proxy) -> AsyncIterator[Scene]:
    """An application that reaches its database through the proxy."""
    async with opened(make_settings(**proxy.overrides)) as scene:
        await scene.trigger()
        yield scene


async def _until_ok(scene: Scene, path: str) -> None:
    async with asyncio.timeout(8):
        while (await scene.client.get(path)).status_code != 200:
            await asyncio.sleep(0.05)


async def _all_requests(scene: Scene) -> list[tuple[int, str | None, float]]:
    job_id = uuid4()
    requests = [
        scene.post("/jobs/trigger", JOB),
        scene.post("/jobs/trigger/bulk", {"jobs": [JOB]}),
        scene.post(f"/jobs/{job_id}/cancel"),
        scene.post(f"/jobs/{job_id}/retry"),
        scene.post("/queues/q/pause"),
        scene.get("/jobs"),
        scene.get(f"/jobs/{job_id}"),
        scene.get(f"/jobs/{job_id}/status"),
        scene.get(f"/jobs/{job_id}/status", wait="20"),
        scene.get(f"/jobs/{job_id}/why"),
        scene.get("/tasks"),
        scene.get("/queues"),
        scene.get("/workers"),
    ]

    async def timed(request: Awaitable[httpx2.Response]) -> tuple[int, str | None, float]:
        started = time.perf_counter()
        answer = await request
        return answer.status_code, answer.headers.get("retry-after"), time.perf_counter() - started

    return await asyncio.gather(*map(timed, requests))


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_every_request_is_answered_503_in_time_and_works_again_afterwards(
    away: Scene, proxy: Proxy, how: str
) -> None:
    if how == "cut":
        await proxy.cut()
    else:
        proxy.freeze()

    answers = await _all_requests(away)
    status = await away.client.get("/status")
    metrics = await away.client.get("/metrics")
    health = await away.client.get("/health")

    assert {(code, retry) for code, retry, _ in answers} == {(503, "2")}
    assert max(seconds for _, _, seconds in answers) < 5
    assert (status.status_code, status.json()["database"]["reachable"]) == (503, False)
    assert (metrics.status_code, "dataloader_database_up 0.0" in metrics.text) == (200, True)
    assert health.status_code == 200

    if how == "cut":
        await proxy.start()
    else:
        proxy.thaw()
    await _until_ok(away, "/status")
    await away.trigger(idempotency_key="k")
    assert (await away.get("/jobs")).status_code == 200


async def test_a_frozen_database_in_the_middle_of_a_statement_is_503_in_time(
    away: Scene, proxy: Proxy, pg: Connection
) -> None:
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        slow = group.create_task(_slow(away))
        await until(
            lambda: pg.fetchval(
                "select true from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
            )
        )
        proxy.freeze()

    assert slow.result() == "database_unavailable"


async def _slow(scene: Scene) -> str:
    try:
        async with scene.app.state.services.database.transaction() as connection:
            await connection.execute(text("select pg_sleep(60)"))
    except DatabaseAwayError as error:
        return error.code
    return "no error"


async def test_an_outage_is_one_line_in_the_log_and_its_end_another(
    make_settings: Callable[..., Settings], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = io.StringIO()
    monkeypatch.setattr("sys.stderr", console)
    async with opened(make_settings(**proxy.overrides)) as scene:
        await scene.trigger()
        await proxy.cut()
        for _ in range(20):
            assert (await scene.get("/jobs")).status_code == 503
        await proxy.start()
        await _until_ok(scene, "/api/v1/jobs")

    lines = [json.loads(line) for line in console.getvalue().splitlines() if line.startswith("{")]
    events = [line["event"] for line in lines if line["level"] in {"warning", "error"}]
    assert events.count("database away, answering 503") == 1
    assert events.count("database back") == 1
    assert len(events) <= 4, events
    assert "Traceback" not in console.getvalue()


async def test_a_long_poll_ends_when_the_database_goes_away(away: Scene, proxy: Proxy) -> None:
    job_id = await away.trigger()

    async with asyncio.timeout(6), asyncio.TaskGroup() as group:
        poll = group.create_task(away.get(f"/jobs/{job_id}/status", wait="60"))
        await until_waiting(away)
        await proxy.cut()

    assert (poll.result().status_code, poll.result().headers["retry-after"]) == (503, "2")
