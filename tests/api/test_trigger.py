"""Triggering one job."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from uuid import UUID

from dataloader.storage.db import Connection as Pg
from dataloader.workers.pipelines.registry import Registry
from tests.api.scene import API, Scene, opened


async def _publish(pg: Pg, task: str, queue: str | None, schema: object) -> None:
    await pg.execute(
        "insert into dl_tasks (task, queue, doc, args_schema) values ($1, $2, '', $3)", task, queue, json.dumps(schema)
    )


async def test_a_trigger_answers_201_with_the_jobs_id_and_its_location(scene: Scene) -> None:
    answer = await scene.post("/jobs/trigger", {"queue": "q", "task": "any.echo"})

    assert answer.status_code == 201
    assert set(answer.json()) == {"job_id", "status"}
    assert answer.json()["status"] == "queued"
    assert answer.headers["location"] == f"{API}/jobs/{answer.json()['job_id']}"
    assert (await scene.client.get(answer.headers["location"])).status_code == 200


async def test_every_field_of_a_trigger_arrives_in_the_job(scene: Scene) -> None:
    job_id = await scene.trigger(
        queue="load.demo",
        task="demo.load",
        args={"day": "2025-04-01", "rows": 3, "note": "snö ☃ 😀"},
        lock_key="l",
        partition_key="p",
        priority=-5,
        available_at="2030-01-01T02:00:00+02:00",
        max_attempts=2,
        max_losses=7,
        timeout_s=1.5,
        stall_timeout_s=3,
        labels={"team": "treasury"},
    )

    job = (await scene.get(f"/jobs/{job_id}")).json()

    assert job["args"] == {"day": "2025-04-01", "rows": 3, "note": "snö ☃ 😀"}
    assert (job["lock_key"], job["partition_key"], job["priority"]) == ("l", "p", -5)
    assert datetime.fromisoformat(job["available_at"]) == datetime(2030, 1, 1, tzinfo=UTC)
    assert (job["max_attempts"], job["max_losses"], job["timeout_s"], job["stall_timeout_s"]) == (2, 7, 1.5, 3)
    assert job["labels"] == {"team": "treasury"}
    assert job["created_by"] == "http:127.0.0.1"


async def test_the_same_key_and_request_answer_the_same_job_with_200(scene: Scene) -> None:
    request = {"queue": "q", "task": "any.echo", "args": {"a": 1}, "idempotency_key": "k"}
    first = await scene.post("/jobs/trigger", request)

    again = await scene.post("/jobs/trigger", dict(reversed(request.items())))

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["job_id"] == first.json()["job_id"]
    assert again.headers["location"] == first.headers["location"]


async def test_the_same_key_with_another_request_is_a_conflict_that_names_the_job(scene: Scene) -> None:
    job_id = await scene.trigger(args={"a": 1}, idempotency_key="k")

    answer = await scene.post(
        "/jobs/trigger", {"queue": "q", "task": "any.echo", "args": {"a": 2}, "idempotency_key": "k"}
    )

    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"
    assert answer.json()["job_id"] == str(job_id)
    assert answer.json()["job_status"] == "queued"


async def test_32_clients_with_50_keys_at_once_make_50_jobs_and_32_equal_answers_each(scene: Scene, pg: Pg) -> None:
    async def client() -> list[UUID]:
        return [await scene.trigger(args={"n": n}, idempotency_key=f"k{n}") for n in range(50)]

    answers = await asyncio.gather(*(client() for _ in range(32)))

    assert len({tuple(ids) for ids in answers}) == 1
    assert await pg.fetchval("select count(*) from dl_jobs") == 50


async def test_an_unknown_task_is_refused_with_the_known_names(scene: Scene, pg: Pg) -> None:
    await _publish(pg, "elsewhere.known", None, None)

    answer = await scene.post("/jobs/trigger", {"queue": "q", "task": "any.ecko"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "unknown_task"
    assert answer.json()["known"] == ["any.echo", "broken.check", "demo.load", "elsewhere.known"]
    assert answer.json()["errors"][0]["field"] == "task"


async def test_a_task_on_another_queue_than_its_own_is_refused(scene: Scene) -> None:
    answer = await scene.post("/jobs/trigger", {"queue": "q", "task": "demo.load", "args": {"day": "2025-04-01"}})

    assert answer.status_code == 422
    assert answer.json()["code"] == "wrong_queue"
    assert answer.json()["queue"] == "load.demo"


async def test_arguments_are_checked_by_the_model_of_an_own_task(scene: Scene) -> None:
    answer = await scene.post("/jobs/trigger", {"queue": "load.demo", "task": "demo.load", "args": {"rows": 0}})

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_args"
    assert {error["field"] for error in answer.json()["errors"]} == {"args.day", "args.rows"}


async def test_a_model_that_breaks_refuses_the_arguments_and_shows_nothing_of_its_inside(scene: Scene) -> None:
    answer = await scene.post("/jobs/trigger", {"queue": "q", "task": "broken.check"})

    assert answer.status_code == 422
    assert "KeyError" in answer.json()["errors"][0]["reason"]
    assert "s3cret" not in answer.text


async def test_arguments_are_checked_by_the_published_schema_of_a_foreign_task(scene: Scene, pg: Pg) -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string", "format": "date"}}, "required": ["day"]}
    await _publish(pg, "far.load", "far", schema)

    bad = await scene.post("/jobs/trigger", {"queue": "far", "task": "far.load", "args": {"day": "tomorrow"}})
    wrong = await scene.post("/jobs/trigger", {"queue": "q", "task": "far.load", "args": {"day": "2025-04-01"}})
    good = await scene.post("/jobs/trigger", {"queue": "far", "task": "far.load", "args": {"day": "2025-04-01"}})

    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "args.day")
    assert (wrong.status_code, wrong.json()["code"]) == (422, "wrong_queue")
    assert good.status_code == 201


async def test_a_published_schema_that_is_broken_or_refers_elsewhere_refuses_nobody(scene: Scene, pg: Pg) -> None:
    await _publish(pg, "far.broken", None, {"type": "nonsense"})
    await _publish(pg, "far.refers", None, {"$ref": "http://127.0.0.1:1/schema.json"})

    for task in ("far.broken", "far.refers"):
        assert (await scene.post("/jobs/trigger", {"queue": "q", "task": task})).status_code == 201


async def test_a_process_without_tasks_says_that_no_worker_has_started(scene: Scene) -> None:
    async with opened(scene.ctx.settings, Registry()) as empty:
        answer = await empty.post("/jobs/trigger", {"queue": "q", "task": "any.echo"})

    assert answer.status_code == 422
    assert "no worker has ever started" in answer.text


async def test_the_first_job_of_a_key_is_offered_at_once_and_the_next_one_waits(scene: Scene) -> None:
    first = await scene.trigger(lock_key="l")
    await scene.trigger(lock_key="l")

    claimed = await scene.claim(limit=2)

    assert [job.lease.job_id for job in claimed] == [first]


async def test_workers_of_the_queue_are_told(scene: Scene) -> None:
    told: list[str] = []
    scene.ctx.listener.subscribe("queue", told.append)

    await scene.trigger(queue="plain")
    await scene.trigger(queue="keyed", lock_key="l")
    await scene.trigger(queue="later", available_at="2030-01-01T00:00:00Z")

    assert set(told) - {"*"} == {"plain", "keyed"}


async def test_a_key_whose_turn_cannot_be_decided_now_is_left_to_the_sweep(scene: Scene, pg: Pg) -> None:
    told: list[str] = []
    scene.ctx.listener.subscribe("promote", told.append)
    async with pg.transaction():
        await pg.execute("select pg_advisory_xact_lock(hashtextextended('public.l', 1))")
        async with asyncio.timeout(5):
            answer = await scene.post("/jobs/trigger", {"queue": "q", "task": "any.echo", "lock_key": "l"})

    assert answer.status_code == 201
    assert "" in told


async def test_a_key_held_by_an_open_transaction_is_503_and_nobody_else_waits(scene: Scene, pg: Pg) -> None:
    async with pg.transaction():
        await pg.execute("select dl_enqueue('q', 'any.echo', idempotency_key => 'held')")
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            held = group.create_task(
                scene.post("/jobs/trigger", {"queue": "q", "task": "any.echo", "idempotency_key": "held"})
            )
            async with asyncio.timeout(1):
                await scene.trigger(idempotency_key="free")

    assert (held.result().status_code, held.result().json()["code"]) == (503, "unavailable")
    assert held.result().headers["retry-after"] == "2"
