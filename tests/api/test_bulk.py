"""Triggering many jobs at once."""

from __future__ import annotations

import pytest

from dataloader.storage.db import Connection as Pg
from tests.api.scene import Scene

JOB = {"queue": "q", "task": "any.echo"}


async def test_every_item_gets_its_answer_in_order(scene: Scene) -> None:
    known = await scene.trigger(idempotency_key="b")

    answer = await scene.post("/jobs/trigger/bulk", {"jobs": [JOB, JOB | {"idempotency_key": "b"}, JOB]})

    jobs = answer.json()["jobs"]
    assert answer.status_code == 201
    assert [job["created"] for job in jobs] == [True, False, True]
    assert jobs[1]["job_id"] == str(known)


async def test_a_repeated_bulk_answers_200_and_the_same_jobs(scene: Scene) -> None:
    request = {"jobs": [JOB | {"idempotency_key": str(n)} for n in range(3)]}
    first = await scene.post("/jobs/trigger/bulk", request)

    again = await scene.post("/jobs/trigger/bulk", request)

    assert (first.status_code, again.status_code) == (201, 200)
    assert [job["job_id"] for job in again.json()["jobs"]] == [job["job_id"] for job in first.json()["jobs"]]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ({"priority": 40_000}, "jobs.1.priority"),
        ({"task": "nobody.knows"}, "jobs.1.task"),
        ({"task": "demo.load"}, "jobs.1.queue"),
        ({"task": "demo.load", "queue": "load.demo", "args": {"day": "x"}}, "jobs.1.args.day"),
    ],
)
async def test_one_bad_item_refuses_all_and_is_named(scene: Scene, pg: Pg, bad: dict[str, object], field: str) -> None:
    answer = await scene.post("/jobs/trigger/bulk", {"jobs": [JOB, JOB | bad, JOB]})

    assert answer.status_code == 422
    assert (answer.json()["errors"][0]["index"], answer.json()["errors"][0]["field"]) == (1, field)
    assert await pg.fetchval("select count(*) from dl_jobs") == 0


async def test_a_conflicting_key_refuses_all_and_names_the_item(scene: Scene, pg: Pg) -> None:
    known = await scene.trigger(idempotency_key="b", args={"a": 1})

    answer = await scene.post("/jobs/trigger/bulk", {"jobs": [JOB, JOB | {"idempotency_key": "b"}]})

    assert answer.status_code == 409
    assert (answer.json()["index"], answer.json()["job_id"]) == (1, str(known))
    assert await pg.fetchval("select count(*) from dl_jobs") == 1


async def test_a_key_used_twice_in_one_bulk_for_different_requests_is_a_conflict(scene: Scene) -> None:
    first, second = JOB | {"idempotency_key": "b"}, JOB | {"idempotency_key": "b", "args": {"a": 1}}

    same = await scene.post("/jobs/trigger/bulk", {"jobs": [first, first]})
    other = await scene.post("/jobs/trigger/bulk", {"jobs": [first, second]})

    assert [job["created"] for job in same.json()["jobs"]] == [True, False]
    assert other.status_code == 409


async def test_ten_thousand_jobs_fit_and_one_more_does_not(scene: Scene, pg: Pg) -> None:
    full = await scene.post("/jobs/trigger/bulk", {"jobs": [JOB] * 10_000})
    more = await scene.post("/jobs/trigger/bulk", {"jobs": [JOB] * 10_001})
    none = await scene.post("/jobs/trigger/bulk", {"jobs": []})

    assert (full.status_code, more.status_code, none.status_code) == (201, 422, 422)
    assert await pg.fetchval("select count(*) from dl_jobs") == 10_000


async def test_one_job_of_each_key_is_offered(scene: Scene) -> None:
    keyed = [JOB | {"lock_key": f"l{n % 300}"} for n in range(600)]

    await scene.post("/jobs/trigger/bulk", {"jobs": keyed})

    assert len(await scene.claim(limit=600)) == 300
