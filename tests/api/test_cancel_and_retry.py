"""Canceling and retrying."""

from __future__ import annotations

from uuid import uuid4

import pytest

from dataloader.domain.outcomes import Canceled, Failed, JobError
from tests.api.scene import Scene

FAILED = Failed(JobError("ValueError", "no"), delay_s=None)


async def test_a_queued_job_is_canceled_at_once_and_again_without_complaint(scene: Scene) -> None:
    job_id = await scene.trigger()

    first = await scene.post(f"/jobs/{job_id}/cancel")
    again = await scene.post(f"/jobs/{job_id}/cancel")

    assert (first.status_code, first.json()["status"]) == (200, "canceled")
    assert (again.status_code, again.json()["status"]) == (200, "canceled")


async def test_a_running_job_is_asked_to_stop_and_its_worker_told(scene: Scene) -> None:
    told: list[str] = []
    scene.ctx.listener.subscribe("cancel", told.append)
    job_id = await scene.trigger()
    jobs = await scene.claim()

    answer = await scene.post(f"/jobs/{job_id}/cancel")

    assert (answer.json()["status"], answer.json()["cancel_requested"]) == ("running", True)
    assert str(job_id) in told
    await scene.settle(jobs, Canceled())
    assert (await scene.get(f"/jobs/{job_id}/status")).json()["status"] == "canceled"


async def test_a_finished_job_cannot_be_canceled(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.settle(await scene.claim())

    answer = await scene.post(f"/jobs/{job_id}/cancel")

    assert answer.status_code == 409
    assert (answer.json()["job_id"], answer.json()["job_status"]) == (str(job_id), "succeeded")


async def test_canceling_the_holder_of_a_key_offers_the_next_one(scene: Scene) -> None:
    first, second = await scene.trigger(lock_key="l"), await scene.trigger(lock_key="l")

    await scene.post(f"/jobs/{first}/cancel")

    assert [job.lease.job_id for job in await scene.claim(limit=2)] == [second]


async def test_a_failed_job_is_queued_again_from_zero(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.settle(await scene.claim(), FAILED)

    answer = await scene.post(f"/jobs/{job_id}/retry")

    assert answer.status_code == 200
    assert (answer.json()["status"], answer.json()["attempt"], answer.json()["finished_at"]) == ("queued", 0, None)
    assert len(await scene.claim()) == 1


async def test_a_retry_from_the_start_drops_the_checkpoint(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.post(f"/jobs/{job_id}/cancel")

    answer = await scene.post(f"/jobs/{job_id}/retry", {"from_start": True})
    events = (await scene.get(f"/jobs/{job_id}/events")).json()["events"]

    assert answer.status_code == 200
    assert events[-1]["data"] == {"before": "canceled", "from_start": True}


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
async def test_a_queued_running_or_succeeded_job_cannot_be_retried(scene: Scene, state: str) -> None:
    job_id = await scene.trigger()
    if state != "queued":
        jobs = await scene.claim()
        if state == "succeeded":
            await scene.settle(jobs)

    answer = await scene.post(f"/jobs/{job_id}/retry")

    assert answer.status_code == 409
    assert (answer.json()["job_id"], answer.json()["job_status"]) == (str(job_id), state)


@pytest.mark.parametrize("body", [{"from_start": "yes"}, {"from_begin": True}, [], 7])
async def test_a_retry_with_another_body_is_refused(scene: Scene, body: object) -> None:
    assert (await scene.post(f"/jobs/{uuid4()}/retry", body)).status_code == 422


@pytest.mark.parametrize("verb", ["cancel", "retry"])
async def test_an_unknown_job_is_404(scene: Scene, verb: str) -> None:
    answer = await scene.post(f"/jobs/{uuid4()}/{verb}")

    assert (answer.status_code, answer.json()["code"]) == (404, "job_not_found")
