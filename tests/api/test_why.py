"""Why a queued job waits."""

from __future__ import annotations

from uuid import UUID

import pytest

from dataloader.domain.outcomes import Failed, JobError
from dataloader.storage.db import Connection as Pg
from tests.api.scene import TASKS, Scene


async def _reasons(scene: Scene, job_id: UUID) -> dict[str, dict[str, object]]:
    answer = (await scene.get(f"/jobs/{job_id}/why")).json()
    return {reason["reason"]: reason for reason in answer["waits_for"]}


@pytest.fixture
async def worker(scene: Scene, pg: Pg) -> UUID:
    """A live worker with two slots for queue `q`."""
    await pg.execute(
        "insert into dl_workers (worker_id, host, pid, version, queues, tasks, takes, expires_at)"
        " values ($1, 'h', 1, 'v', '{\"q\": 2}', $2, jsonb_build_object('q', $2::text[]), now() + interval '1 minute')",
        scene.worker_id,
        list(TASKS),
    )
    return scene.worker_id


async def test_for_a_worker_when_none_serves_its_queue(scene: Scene) -> None:
    job_id = await scene.trigger()

    assert set(await _reasons(scene, job_id)) == {"no_worker"}


@pytest.mark.usefixtures("worker")
async def test_for_a_worker_when_none_knows_its_task(scene: Scene, pg: Pg) -> None:
    job_id = await scene.trigger()
    await pg.execute('update dl_workers set takes = \'{"q": ["other"]}\'')

    assert set(await _reasons(scene, job_id)) == {"no_worker"}


@pytest.mark.usefixtures("worker")
async def test_for_its_time(scene: Scene) -> None:
    job_id = await scene.trigger(available_at="2099-01-01T00:00:00Z")

    reasons = await _reasons(scene, job_id)

    assert set(reasons) == {"not_due"}
    assert reasons["not_due"]["until"] == "2099-01-01T00:00:00Z"


@pytest.mark.usefixtures("worker")
async def test_for_the_holder_of_its_lock_key(scene: Scene) -> None:
    first, second = await scene.trigger(lock_key="l"), await scene.trigger(lock_key="l")

    offered = (await _reasons(scene, second))["lock"]
    await scene.claim()
    running = (await _reasons(scene, second))["lock"]

    assert offered["job_id"] == running["job_id"] == str(first)
    assert "about to run" in str(offered["message"])
    assert "it runs" in str(running["message"])


@pytest.mark.usefixtures("worker")
async def test_for_the_head_of_its_partition(scene: Scene) -> None:
    first = await scene.trigger(partition_key="p", available_at="2099-01-01T00:00:00Z")
    second = await scene.trigger(partition_key="p")

    reasons = await _reasons(scene, second)

    assert set(reasons) == {"partition"}
    assert reasons["partition"]["job_id"] == str(first)


@pytest.mark.usefixtures("worker")
async def test_for_a_failed_head_that_blocks_its_partition(scene: Scene, pg: Pg) -> None:
    await pg.execute("insert into dl_tasks (task, doc, on_partition_failure) values ('any.echo', '', 'block')")
    first, second = await scene.trigger(partition_key="p"), await scene.trigger(partition_key="p")
    await scene.settle(await scene.claim(), Failed(JobError("E", "no"), delay_s=None))

    reason = (await _reasons(scene, second))["partition"]

    assert reason["job_id"] == str(first)
    assert "failed" in str(reason["message"])


@pytest.mark.usefixtures("worker")
async def test_for_a_paused_queue(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.post("/queues/q/pause")

    assert set(await _reasons(scene, job_id)) == {"queue_paused"}


@pytest.mark.usefixtures("worker")
async def test_for_a_hold(scene: Scene, pg: Pg) -> None:
    job_id = await scene.trigger()
    await pg.execute("update dl_jobs set ready = false, hold_reason = 'parent has not ended'")

    reasons = await _reasons(scene, job_id)

    assert "parent has not ended" in str(reasons["held"]["message"])


@pytest.mark.usefixtures("worker")
async def test_for_a_free_slot_with_the_number_of_jobs_ahead(scene: Scene) -> None:
    for _ in range(5):
        await scene.trigger()
    last = await scene.trigger()
    await scene.claim(limit=2)

    reason = (await _reasons(scene, last))["slot"]

    assert reason["ahead"] == 3
    assert "2 of 2 slots" in str(reason["message"])


@pytest.mark.usefixtures("worker")
async def test_for_an_idle_process_after_its_worker_died(scene: Scene, pg: Pg) -> None:
    job_id = await scene.trigger()
    await pg.execute("update dl_jobs set losses = 1")

    assert set(await _reasons(scene, job_id)) == {"after_loss"}


@pytest.mark.usefixtures("worker")
async def test_for_the_next_look_of_the_promoter(scene: Scene, pg: Pg) -> None:
    job_id = await pg.fetchval("insert into dl_jobs (queue, task) values ('q', 'any.echo') returning job_id")

    assert set(await _reasons(scene, job_id)) == {"turn"}


async def test_for_everything_that_is_in_the_way_at_once(scene: Scene) -> None:
    await scene.trigger(lock_key="l", partition_key="p")
    job_id = await scene.trigger(lock_key="l", partition_key="p", available_at="2099-01-01T00:00:00Z")
    await scene.post("/queues/q/pause")

    reasons = await _reasons(scene, job_id)

    assert set(reasons) == {"not_due", "queue_paused", "no_worker", "partition"}


async def test_a_job_that_does_not_wait_has_no_reasons(scene: Scene) -> None:
    job_id = await scene.trigger()
    jobs = await scene.claim()
    running = (await scene.get(f"/jobs/{job_id}/why")).json()
    await scene.settle(jobs)
    finished = (await scene.get(f"/jobs/{job_id}/why")).json()

    assert (running["status"], running["waits_for"]) == ("running", [])
    assert (finished["status"], finished["waits_for"]) == ("succeeded", [])
