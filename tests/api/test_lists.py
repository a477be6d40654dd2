"""Lists of jobs, their events, tasks, workers."""

from __future__ import annotations

import asyncio
from uuid import UUID

from dataloader.storage.db import Connection as Pg
from tests.api.scene import Scene


async def test_pages_lead_through_all_jobs_once(scene: Scene) -> None:
    ids = {await scene.trigger() for _ in range(7)}
    seen: list[UUID] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (await scene.get("/jobs", limit="3", **({"cursor": cursor} if cursor else {}))).json()
        seen += [UUID(job["job_id"]) for job in page["jobs"]]
        cursor = page["next_cursor"]

    assert len(seen) == 7
    assert set(seen) == ids
    assert seen == sorted(seen, reverse=True)


async def test_filters_may_be_repeated_and_combined(scene: Scene) -> None:
    wanted = await scene.trigger(queue="a", labels={"team": "x", "env": "p=1"}, lock_key="l")
    await scene.trigger(queue="a", labels={"team": "x"})
    canceled = await scene.trigger(queue="b")
    await scene.post(f"/jobs/{canceled}/cancel")

    async def listed(**query: str | list[str]) -> set[UUID]:
        answer = await scene.client.get("/api/v1/jobs", params=query)
        return {UUID(job["job_id"]) for job in answer.json()["jobs"]}

    assert await listed(label=["team=x", "env=p=1"]) == {wanted}
    assert await listed(lock_key="l", queue="a", task="any.echo") == {wanted}
    assert await listed(status=["canceled", "failed"]) == {canceled}
    assert await listed(created_after="2099-01-01T00:00:00Z") == set()
    assert len(await listed(created_before="2099-01-01T00:00:00+02:00")) == 3


async def test_events_tell_the_story_in_pages(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.settle(await scene.claim())

    first = (await scene.get(f"/jobs/{job_id}/events", limit="2")).json()
    rest = (await scene.get(f"/jobs/{job_id}/events", after=str(first["next_after"]))).json()

    assert [event["kind"] for event in first["events"]] == ["created", "claimed"]
    assert [event["kind"] for event in rest["events"]] == ["succeeded"]
    assert first["events"][0]["actor"] == "http:127.0.0.1"
    assert rest["next_after"] is None


async def test_tasks_are_those_of_this_process_and_those_of_the_workers(scene: Scene, pg: Pg) -> None:
    await pg.execute("insert into dl_tasks (task, queue, doc) values ('far.load', 'far', 'Loads.')")

    tasks = {task["task"]: task for task in (await scene.get("/tasks")).json()["tasks"]}
    one = (await scene.get("/tasks/demo.load")).json()

    assert list(tasks) == ["any.echo", "broken.check", "demo.load", "far.load"]
    assert tasks["far.load"]["doc"] == "Loads."
    assert one["args_schema"]["required"] == ["day"]
    assert (await scene.get("/tasks/nobody.knows")).status_code == 404


async def test_workers_are_shown_with_their_queues(scene: Scene, pg: Pg) -> None:
    await pg.execute(
        "insert into dl_workers (worker_id, host, pid, version, queues, tasks, expires_at)"
        " values (gen_random_uuid(), 'h', 7, 'v', '{\"q\": 2}', '{any.echo}', now() - interval '1 minute')"
    )

    [worker] = (await scene.get("/workers")).json()["workers"]

    assert (worker["pid"], worker["queues"], worker["tasks"], worker["alive"]) == (7, {"q": 2}, ["any.echo"], False)


async def test_a_filter_that_takes_too_long_is_given_up_by_the_server_too(scene: Scene, pg: Pg) -> None:
    await scene.trigger()
    async with pg.transaction():
        await pg.execute("lock table dl_jobs in access exclusive mode")
        async with asyncio.timeout(5):
            answer = await scene.get("/jobs", lock_key="rare")
        left = await pg.fetchval(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and state = 'active' and query like '%dl_jobs%'"
        )

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert left == 1
