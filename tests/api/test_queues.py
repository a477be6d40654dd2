"""Queues: what they hold, pausing and resuming."""

from __future__ import annotations

from tests.api.scene import Scene


async def _queue(scene: Scene, name: str) -> dict[str, object]:
    queues: list[dict[str, object]] = (await scene.get("/queues")).json()["queues"]
    return next(queue for queue in queues if queue["queue"] == name)


async def test_a_queue_shows_what_it_holds(scene: Scene) -> None:
    for _ in range(3):
        await scene.trigger()
    await scene.trigger(available_at="2099-01-01T00:00:00Z")
    await scene.claim()

    queue = await _queue(scene, "q")

    assert (queue["ready"], queue["waiting"], queue["running"], queue["paused"]) == (2, 1, 1, False)


async def test_nothing_is_claimed_from_a_paused_queue_until_it_is_resumed(scene: Scene) -> None:
    await scene.trigger()

    paused = await scene.post("/queues/q/pause")
    claimed_while_paused = await scene.claim()
    resumed = await scene.post("/queues/q/resume")

    assert (paused.json()["paused"], paused.json()["paused_by"]) == (True, "http:127.0.0.1")
    assert claimed_while_paused == []
    assert (resumed.json()["paused"], resumed.json()["paused_at"]) == (False, None)
    assert len(await scene.claim()) == 1


async def test_pausing_twice_keeps_the_first_time_and_resuming_twice_is_fine(scene: Scene) -> None:
    await scene.trigger()
    first = (await scene.post("/queues/q/pause")).json()

    again = (await scene.post("/queues/q/pause")).json()
    await scene.post("/queues/q/resume")
    resumed = await scene.post("/queues/q/resume")

    assert first["paused_at"] == again["paused_at"]
    assert resumed.status_code == 200


async def test_a_candidate_in_a_paused_queue_does_not_hold_its_key(scene: Scene) -> None:
    await scene.trigger(queue="q", lock_key="l")
    other = await scene.trigger(queue="r", lock_key="l")

    await scene.post("/queues/q/pause")

    assert [job.lease.job_id for job in await scene.claim("r")] == [other]


async def test_resuming_offers_the_jobs_of_free_keys_and_tells_the_workers(scene: Scene) -> None:
    first = await scene.trigger(lock_key="l")
    await scene.post("/queues/q/pause")
    told: list[str] = []
    scene.ctx.listener.subscribe("queue", told.append)

    await scene.post("/queues/q/resume")

    assert "q" in told
    assert [job.lease.job_id for job in await scene.claim()] == [first]


async def test_a_queue_that_nobody_names_is_404_with_the_known_ones(scene: Scene) -> None:
    await scene.trigger()

    for verb in ("pause", "resume"):
        answer = await scene.post(f"/queues/qq/{verb}")
        assert (answer.status_code, answer.json()["code"]) == (404, "queue_not_found")
        assert answer.json()["known"] == ["load.demo", "q"]
    assert (await scene.post("/queues/Q!/pause")).status_code == 422
