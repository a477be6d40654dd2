"""Refusals become the project's errors; what may be repeated is, what may not is not."""

from __future__ import annotations

import socket

import pytest

from dataloader.client import DataloaderClient, Patience, UnreachableError
from dataloader.exceptions import (
    ConflictError,
    DatabaseAwayError,
    DataloaderError,
    ForbiddenError,
    IdempotencyConflictError,
    InvalidArgsError,
    InvalidError,
    JobNotFoundError,
    JobStateError,
    NotFoundError,
    UnavailableError,
    UnknownTaskError,
)
from tests.client.stub import JOB_ID, Stub, job_state

AWAY = (503, "database_unavailable", "PostgreSQL cannot be reached")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "job_not_found", JobNotFoundError),
        (409, "idempotency_conflict", IdempotencyConflictError),
        (409, "job_state_conflict", JobStateError),
        (422, "invalid_args", InvalidArgsError),
        (422, "unknown_task", UnknownTaskError),
        (503, "database_unavailable", DatabaseAwayError),
        (404, "of_a_newer_service", NotFoundError),
        (403, "of_a_newer_service", ForbiddenError),
        (409, "of_a_newer_service", ConflictError),
        (418, "of_a_newer_service", InvalidError),
        (500, "retry_later", UnavailableError),
    ],
)
async def test_a_refusal_is_the_error_of_its_code(
    stub: Stub, client: DataloaderClient, status: int, code: str, kind: type[DataloaderError]
) -> None:
    stub.problem(status, code, "because", known=["noop"])
    with pytest.raises(DataloaderError, match="because") as caught:
        await client.job(JOB_ID)
    assert type(caught.value) is kind
    assert caught.value.details == {"known": ["noop"]}


async def test_a_request_that_may_be_repeated_is(stub: Stub, client: DataloaderClient) -> None:
    stub.problem(*AWAY)
    stub.answer(None)
    stub.answer(job_state())
    await client.status(JOB_ID)
    assert len(stub.asked) == 3


async def test_after_the_last_try_the_error_is_let_through(stub: Stub, client: DataloaderClient) -> None:
    stub.problem(*AWAY)
    with pytest.raises(DatabaseAwayError):
        await client.status(JOB_ID)
    assert len(stub.asked) == 3


async def test_a_trigger_with_a_key_is_repeated(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(None)
    stub.answer({"job_id": str(JOB_ID), "status": "queued"}, 200)
    await client.trigger("noop", queue="noop", idempotency_key="k")
    assert len(stub.asked) == 2


@pytest.mark.parametrize("cut", [True, False])
async def test_a_trigger_without_a_key_is_not_repeated(stub: Stub, client: DataloaderClient, *, cut: bool) -> None:
    if cut:
        stub.answer(None)
    else:
        stub.problem(*AWAY)
    with pytest.raises(UnavailableError, match="unknown" if cut else "cannot be reached"):
        await client.trigger("noop", queue="noop")
    assert len(stub.asked) == 1


async def test_a_retry_by_hand_is_not_repeated(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(None)
    with pytest.raises(UnavailableError):
        await client.retry(JOB_ID)
    assert len(stub.asked) == 1


async def test_even_a_trigger_without_a_key_is_repeated_when_it_was_turned_away(
    stub: Stub, client: DataloaderClient
) -> None:
    stub.answer({"detail": "slowly"}, 429)
    stub.answer({"job_id": str(JOB_ID), "status": "queued"}, 201)
    await client.trigger("noop", queue="noop")
    assert len(stub.asked) == 2


def test_the_service_says_when_to_come_back() -> None:
    patience = Patience(tries=3, initial_s=1, max_s=1.5, retry_after_max_s=30)
    assert patience.wait_s(1, 7.0) == 7.0
    assert patience.wait_s(1, 31.0) is None
    assert patience.wait_s(3, None) is None
    assert 0.5 <= (patience.wait_s(1, None) or 0) <= 1
    assert 0.75 <= (patience.wait_s(2, 0.0) or 0) <= 1.5


async def test_a_too_long_retry_after_is_not_waited_for(stub: Stub, client: DataloaderClient) -> None:
    stub.answer({"detail": "later", "code": "unavailable"}, 503, Retry_After="3600")
    with pytest.raises(UnavailableError):
        await client.tasks()
    assert len(stub.asked) == 1


async def test_nobody_there_says_where_nobody_is() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with DataloaderClient(url, patience=Patience(tries=2, initial_s=0.001)) as client:
            with pytest.raises(UnreachableError, match=f"No Dataloader answers at {url}"):
                await client.trigger("noop", queue="noop")


@pytest.mark.parametrize("document", [{"hello": "world"}, [1]])
async def test_something_else_that_answers_is_named(stub: Stub, client: DataloaderClient, document: object) -> None:
    stub.answer(document)
    with pytest.raises(UnavailableError, match="did not answer like"):
        await client.tasks()


async def test_a_bare_refusal_asks_whether_this_is_the_right_place(stub: Stub, client: DataloaderClient) -> None:
    stub.answer("Not Found", 404)
    with pytest.raises(NotFoundError, match="is this a Dataloader"):
        await client.tasks()


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "nonsense"])
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    async with DataloaderClient(url) as client:
        with pytest.raises(InvalidError, match="not an http"):
            await client.tasks()


async def test_a_watch_bridges_an_outage_and_tells_of_it(stub: Stub, client: DataloaderClient) -> None:
    stub.answer(job_state("running"))
    for _ in range(3):
        stub.problem(*AWAY)
    stub.answer(job_state("succeeded"))
    told: list[UnavailableError] = []

    states = [state.status async for state in client.watch(JOB_ID, period_s=0.01, on_outage=told.append)]

    assert states == ["running", "succeeded"]
    assert [type(error) for error in told] == [DatabaseAwayError]


async def test_a_watch_gives_up_on_a_service_that_stays_away(stub: Stub) -> None:
    stub.problem(*AWAY)
    async with DataloaderClient(stub.url, patience=Patience(tries=1), outage_s=0) as client:
        with pytest.raises(DatabaseAwayError):
            [state async for state in client.watch(JOB_ID, period_s=0.01)]


async def test_a_job_that_is_not_there_ends_a_watch_at_once(stub: Stub, client: DataloaderClient) -> None:
    stub.problem(404, "job_not_found", "No job")
    with pytest.raises(JobNotFoundError):
        [state async for state in client.watch(JOB_ID)]
