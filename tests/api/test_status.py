"""Status and long-polls."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from dataloader.api.v1.schemas import JobStatusView
from dataloader.domain.outcomes import Failed, JobError, Succeeded
from tests.api.scene import Scene, until_waiting

KEYS = {
    "job_id", "queue", "task", "status", "attempt", "max_attempts", "losses", "cancel_requested", "created_at",
    "available_at", "started_at", "heartbeat_at", "finished_at", "progress", "error", "result",
}  # fmt: skip


async def test_every_key_is_there_and_null_when_empty(scene: Scene) -> None:
    job_id = await scene.trigger()

    status = (await scene.get(f"/jobs/{job_id}/status")).json()

    assert set(status) == KEYS
    assert [status[key] for key in ("started_at", "finished_at", "heartbeat_at", "error", "progress")] == [None] * 5


async def test_the_result_and_the_error_of_the_last_attempt_are_shown(scene: Scene) -> None:
    done, retrying = await scene.trigger(), await scene.trigger()
    first, second = await scene.claim(limit=2)
    await scene.settle([first], Succeeded({"rows": 3}))
    await scene.settle([second], Failed(JobError("ValueError", "no"), delay_s=60))

    ended = (await scene.get(f"/jobs/{done}/status")).json()
    waiting = (await scene.get(f"/jobs/{retrying}/status")).json()

    assert (ended["status"], ended["result"]) == ("succeeded", {"rows": 3})
    assert (waiting["status"], waiting["error"]) == (
        "queued",
        {"type": "ValueError", "message": "no", "traceback": None},
    )


async def test_a_wait_returns_when_the_job_ends(scene: Scene) -> None:
    job_id = await scene.trigger()
    jobs = await scene.claim()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        poll = group.create_task(scene.get(f"/jobs/{job_id}/status", wait="30"))
        await until_waiting(scene)
        await scene.settle(jobs)

    assert poll.result().json()["status"] == "succeeded"


async def test_a_wait_returns_when_the_job_is_canceled_while_queued(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        poll = group.create_task(scene.get(f"/jobs/{job_id}/status", wait="30"))
        await until_waiting(scene)
        await scene.post(f"/jobs/{job_id}/cancel")

    assert poll.result().json()["status"] == "canceled"


async def test_a_wait_is_over_when_its_time_is_up(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with asyncio.timeout(5):
        answer = await scene.get(f"/jobs/{job_id}/status", wait="0.05")

    assert answer.json()["status"] == "queued"
    assert scene.app.state.services.waiter.waiting == 0


async def test_waits_of_a_thousand_requests_share_the_looks(scene: Scene) -> None:
    job_id = await scene.trigger()
    jobs = await scene.claim()
    errors_before = scene.ctx.engine.pool.status()

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        polls = [group.create_task(scene.get(f"/jobs/{job_id}/status", wait="30")) for _ in range(200)]
        await until_waiting(scene, 200)
        await scene.settle(jobs)

    assert {poll.result().json()["status"] for poll in polls} == {"succeeded"}, errors_before


async def test_a_wait_returns_at_once_when_the_service_stops(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with asyncio.timeout(3), asyncio.TaskGroup() as group:
        poll = group.create_task(scene.get(f"/jobs/{job_id}/status", wait="30"))
        await until_waiting(scene)
        scene.stop.set()
    late = await scene.get(f"/jobs/{job_id}/status", wait="30")

    assert poll.result().json()["status"] == late.json()["status"] == "queued"


async def test_a_wait_for_a_finished_or_unknown_job_does_not_wait(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.settle(await scene.claim())

    async with asyncio.timeout(2):
        finished = await scene.get(f"/jobs/{job_id}/status", wait="30")
        unknown = await scene.get(f"/jobs/{uuid4()}/status", wait="30")

    assert finished.json()["status"] == "succeeded"
    assert (unknown.status_code, unknown.json()["code"]) == (404, "job_not_found")


@pytest.mark.parametrize("wait", ["-1", "301", "nan", "inf", "soon", ""])
async def test_a_wait_that_is_no_time_is_refused(scene: Scene, wait: str) -> None:
    assert (await scene.get(f"/jobs/{uuid4()}/status", wait=wait)).status_code == 422


@pytest.mark.parametrize("path", ["", "/status", "/events", "/why"])
async def test_an_unknown_job_is_404_and_something_else_than_an_id_is_422(scene: Scene, path: str) -> None:
    unknown, nonsense = await scene.get(f"/jobs/{uuid4()}{path}"), await scene.get(f"/jobs/nonsense{path}")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "job_not_found")
    assert (nonsense.status_code, nonsense.json()["errors"][0]["field"]) == (422, "job_id")


@pytest.mark.parametrize("depth", [45, 120, 240])
async def test_a_result_nested_deeper_than_answers_can_be_does_not_hide_the_job(scene: Scene, depth: int) -> None:
    result: object = "bottom"
    for _ in range(depth):
        result = {"in": [result]}
    job_id = await scene.trigger()
    await scene.settle(await scene.claim(), Succeeded(result))

    for path in (f"/jobs/{job_id}/status", f"/jobs/{job_id}"):
        answer = await scene.get(path)
        assert answer.status_code == 200
        shown = JobStatusView.model_validate_json(answer.content, extra="ignore").result
        assert shown == (result if depth < 50 else {"unreadable": "nested too deep"})


async def test_arguments_nested_deeper_than_can_be_read_do_not_hide_the_job(scene: Scene) -> None:
    job_id = await scene.trigger()
    async with scene.ctx.engine.begin() as connection:
        deep = f'{{"a": {"[" * 2_000}{"]" * 2_000}}}'
        await connection.exec_driver_sql("update dl_jobs set args = $1::text::jsonb where job_id = $2", (deep, job_id))

    answer = await scene.get(f"/jobs/{job_id}")

    assert answer.status_code == 200
    assert answer.json()["args"] == {"unreadable": "nested too deep"}
