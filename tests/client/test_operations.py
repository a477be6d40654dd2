"""Each operation sends what the API documents and returns what it answers."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import aiohttp
import pytest

from dataloader.client import DataloaderClient
from dataloader.domain.jobs import JobStatus, NewJob
from dataloader.exceptions import InvalidError, UnknownTaskError
from tests.client.stub import AT, JOB_ID, Asked, Stub, job_state, job_summary, task


async def test_a_trigger_sends_what_was_said_and_nothing_else(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"job_id": str(JOB_ID), "status": "queued"}, 201)

    job = await client.trigger(
        "noop",
        {"chunks": 3},
        queue="noop",
        idempotency_key="k",
        priority=5,
        available_at=datetime(2026, 1, 31, 8, tzinfo=UTC),
        labels={"team": "treasury"},
        lock_key=None,
    )

    assert (job.job_id, job.status, job.created) == (JOB_ID, JobStatus.QUEUED, True)
    body = {
        "queue": "noop",
        "task": "noop",
        "args": {"chunks": 3},
        "idempotency_key": "k",
        "priority": 5,
        "available_at": "2026-01-31T08:00:00+00:00",
        "labels": {"team": "treasury"},
    }
    assert stub.asked == [Asked("POST", "/api/v1/jobs/trigger", [], body)]


async def test_a_job_that_existed_is_not_called_created(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"job_id": str(JOB_ID), "status": "succeeded"}, 200)
    assert not (await client.trigger("noop", queue="noop", idempotency_key="k")).created


async def test_without_a_queue_the_tasks_own_is_taken(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"tasks": [task("noop", "q1")]})
    stub.answer({"job_id": str(JOB_ID), "status": "queued"}, 201)

    await client.trigger("noop")

    assert [asked.path for asked in stub.asked] == ["/api/v1/tasks", "/api/v1/jobs/trigger"]
    assert stub.asked[1].body == {"queue": "q1", "task": "noop"}


async def test_a_task_nobody_knows_is_refused_with_the_known_ones(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"tasks": [task("noop", "noop")]})
    with pytest.raises(UnknownTaskError) as caught:
        await client.trigger("nope")
    assert caught.value.details["known"] == ["noop"]


async def test_a_task_of_any_queue_needs_one_named(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"tasks": [task("free", None)]})
    with pytest.raises(InvalidError, match="name one"):
        await client.trigger("free")


async def test_many_jobs_are_triggered_in_one_request(stub: Stub, client: DataloaderClient) -> None:
    ids = [uuid4(), uuid4()]
    stub.answer({"jobs": [{"job_id": str(job_id), "status": "queued", "created": True} for job_id in ids]})

    jobs = await client.trigger_many(NewJob(queue="noop", task="noop", args={"chunks": n}) for n in range(2))

    assert [job.job_id for job in jobs] == ids
    assert stub.asked[0].path == "/api/v1/jobs/trigger/bulk"
    expected = [{"queue": "noop", "task": "noop", "args": {"chunks": n}} for n in range(2)]
    assert stub.asked[0].body == {"jobs": expected}


async def test_a_status_may_be_held_back_by_the_service(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(job_state("succeeded"))
    assert (await client.status(JOB_ID, wait=2.5)).status is JobStatus.SUCCEEDED
    assert stub.asked == [Asked("GET", f"/api/v1/jobs/{JOB_ID}/status", [("wait", "2.5")], None)]


async def test_wait_asks_until_the_end(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(job_state("queued"))
    stub.answer(job_state("failed"))
    assert (await client.wait(JOB_ID, timeout_s=5)).status is JobStatus.FAILED
    assert [asked.query for asked in stub.asked] == [[], [("wait", "30")]]


async def test_wait_ends_when_its_time_is_up(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(job_state("running"))
    with pytest.raises(TimeoutError):
        await client.wait(JOB_ID, timeout_s=0.05)


@pytest.mark.parametrize("from_start", [True, False])
async def test_cancel_and_retry_answer_the_new_state(stub: Stub, client: DataloaderClient, *, from_start: bool) -> None:
    stub.answer(job_state("canceled"))
    stub.answer(job_state("queued"))

    assert (await client.cancel(JOB_ID)).status is JobStatus.CANCELED
    assert (await client.retry(JOB_ID, from_start=from_start)).status is JobStatus.QUEUED

    assert stub.asked == [
        Asked("POST", f"/api/v1/jobs/{JOB_ID}/cancel", [], None),
        Asked("POST", f"/api/v1/jobs/{JOB_ID}/retry", [], {"from_start": from_start}),
    ]


async def test_lists_go_over_pages_with_the_same_filter(stub: Stub, client: DataloaderClient) -> None:
    ids = [uuid4() for _ in range(3)]
    stub.answer({"jobs": [job_summary(job_id) for job_id in ids[:2]], "next_cursor": "c1"})
    stub.answer({"jobs": [job_summary(ids[2])], "next_cursor": None})

    since = datetime(2026, 1, 1, tzinfo=UTC)
    jobs = [job async for job in client.jobs(status=["failed", JobStatus.LOST], task="noop", created_after=since)]

    assert [job.job_id for job in jobs] == ids
    filters = [("status", "failed"), ("status", "lost"), ("task", "noop"), ("created_after", since.isoformat())]
    assert stub.asked[0].query == [*filters, ("limit", "200")]
    assert stub.asked[1].query == [*filters, ("limit", "200"), ("cursor", "c1")]


async def test_a_limited_list_asks_for_no_more(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"jobs": [job_summary()], "next_cursor": "more"})
    assert len([job async for job in client.jobs(limit=1)]) == 1
    assert [asked.query for asked in stub.asked] == [[("limit", "1")]]


async def test_a_job_comes_with_all_its_fields(stub: Stub, client: DataloaderClient) -> None:
    more = {
        "args": {"chunks": 3},
        "max_losses": 3,
        "handovers": 0,
        "epoch": 2,
        "worker_id": None,
        "lease_expires_at": None,
        "timeout_s": None,
        "stall_timeout_s": None,
        "hold_reason": None,
        "blocks_partition": False,
        "checkpoint": {"day": "x"},
        "result": None,
        "told_by_a_newer_service": 1,
    }
    stub.answer(job_summary() | more)
    job = await client.job(JOB_ID)
    assert (job.args, job.checkpoint, job.epoch) == ({"chunks": 3}, {"day": "x"}, 2)


async def test_events_are_read_to_the_end(stub: Stub, client: DataloaderClient) -> None:
    event = {"at": AT, "kind": "claimed", "status": "running", "epoch": 1, "attempt": 1, "actor": "w", "data": {}}
    stub.answer({"events": [event | {"event_id": 1}], "next_after": 1})
    stub.answer({"events": [event | {"event_id": 2}], "next_after": None})
    assert [event.event_id async for event in client.events(JOB_ID)] == [1, 2]
    assert stub.asked[1].query == [("after", "1")]


async def test_why_names_reasons(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"job_id": str(JOB_ID), "status": "queued", "waits_for": [{"reason": "no_worker", "message": "none"}]})
    assert [wait.reason for wait in (await client.why(JOB_ID)).waits_for] == ["no_worker"]


async def test_queues_are_listed_paused_and_resumed(stub: Stub, client: DataloaderClient) -> None:
    queue = {
        "queue": "a/b",
        "paused": False,
        "paused_at": None,
        "paused_by": None,
        "ready": 1,
        "waiting": 2,
        "running": 3,
        "workers": 1,
        "slots": 4,
        "oldest_due_s": None,
    }
    stub.answer({"queues": [queue]})
    stub.answer(queue | {"paused": True})
    stub.answer(queue)

    assert [view.waiting for view in await client.queues()] == [2]
    assert (await client.pause("a/b")).paused
    assert not (await client.resume("a/b")).paused
    assert stub.asked[1].path == "/api/v1/queues/a/b/pause"  # the stub shows it decoded


async def test_workers_are_listed(stub: Stub, client: DataloaderClient) -> None:
    worker = {
        "worker_id": str(uuid4()),
        "host": "h",
        "pid": 1,
        "version": "0.1.0",
        "queues": {"noop": 4},
        "tasks": ["noop"],
        "alive": True,
        "stopping": False,
        "started_at": AT,
        "heartbeat_at": AT,
        "expires_at": AT,
    }
    stub.answer({"workers": [worker]})
    assert [view.queues for view in await client.workers()] == [{"noop": 4}]


async def test_a_session_that_was_given_stays_open(stub: Stub) -> None:
    stub.answer({"tasks": []})
    async with aiohttp.ClientSession() as session:
        async with DataloaderClient(stub.url, session=session) as client:
            await client.tasks()
        assert not session.closed
