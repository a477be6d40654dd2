"""Enqueue: one answer per request in order, idempotent by key, refused in whole or stored in whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from dataloader.config import Settings
from dataloader.domain.jobs import JobStatus, NewJob
from dataloader.domain.outcomes import SettleKind
from dataloader.exceptions import InvalidError
from dataloader.storage.db import Connection, open_engine
from dataloader.storage.repositories.intake import IntakeRepository
from tests.storage.scene import (
    INTAKE,
    RECOVERY,
    answers,
    claim,
    enqueue,
    job,
    kinds,
    look,
    publish,
    row,
    running,
    settle,
)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = open_engine(settings)
    yield engine
    await engine.dispose()


async def count(pg: Connection, table: str = "dl_jobs") -> int:
    return int(await pg.fetchval(f"select count(*) from {table}") or 0)


async def test_a_job_without_keys_is_ready_at_once(pg: Connection) -> None:
    (answer,) = await answers(pg, job(args={"day": "2025-04-01"}, labels={"team": "fx"}, priority=7))

    stored = await row(pg, answer.job_id)
    assert (answer.status, answer.created, answer.conflict) == (JobStatus.QUEUED, True, False)
    assert (stored["queue"], stored["task"], stored["priority"], stored["ready"]) == ("q", "t", 7, True)
    assert json.loads(stored["args"]) == {"day": "2025-04-01"}
    assert json.loads(stored["labels"]) == {"team": "fx"}
    assert stored["created_by"] == "test"
    assert await kinds(pg, answer.job_id) == ["created"]


@pytest.mark.parametrize(
    "fields", [{"lock_key": "k"}, {"partition_key": "p"}, {"available_at": datetime.now(UTC) + timedelta(hours=1)}]
)
async def test_a_job_that_must_wait_is_not_ready(pg: Connection, fields: dict[str, Any]) -> None:
    (job_id,) = await enqueue(pg, job(**fields))

    assert await look(pg, job_id, "status ready") == ("queued", False)


async def test_a_time_that_has_passed_means_now(pg: Connection) -> None:
    (job_id,) = await enqueue(pg, job(available_at=datetime(2020, 1, 1, tzinfo=UTC)))

    assert await look(pg, job_id, "ready available_at") == (True, datetime(2020, 1, 1, tzinfo=UTC))


async def test_what_the_request_leaves_open_the_task_decides_and_then_the_service(pg: Connection) -> None:
    await publish(pg, "t", max_attempts=9, max_losses=8)

    ids = await enqueue(pg, job(), job(max_attempts=2, max_losses=1), job(task="unpublished"))

    found = [await look(pg, job_id, "max_attempts max_losses priority") for job_id in ids]
    assert found == [(9, 8, 100), (2, 1, 100), (5, 3, 100)]


async def test_a_batch_answers_in_order_and_keeps_its_order(pg: Connection) -> None:
    jobs = [job(args={"n": n}, partition_key="p") for n in range(100)]

    ids = await enqueue(pg, *jobs)

    stored = await pg.fetch("select job_id, args->>'n' as n from dl_jobs order by seq")
    assert [found["job_id"] for found in stored] == ids
    assert [int(found["n"]) for found in stored] == list(range(100))


async def test_an_empty_batch_is_answered_with_nothing(pg: Connection) -> None:
    assert await answers(pg) == []


async def test_a_key_within_one_batch_makes_one_job_and_tells_conflicts_apart(pg: Connection) -> None:
    same = job(idempotency_key="k", args={"n": 1})

    first, second, third, fourth = await answers(pg, same, job(), same, job(idempotency_key="k", args={"n": 2}))

    assert (first.created, first.conflict) == (True, False)
    assert second.created
    assert (third.job_id, third.created, third.conflict) == (first.job_id, False, False)
    assert (fourth.job_id, fourth.created, fourth.conflict) == (first.job_id, False, True)
    assert await count(pg) == 2


async def test_a_replay_answers_the_same_job_as_it_stands_now(pg: Connection) -> None:
    request = job(idempotency_key="k")
    (first,) = await answers(pg, request)
    (claimed,) = await claim(pg)
    await settle(pg, claimed.lease, SettleKind.SUCCEEDED)

    (again,) = await answers(pg, request)

    assert (again.job_id, again.created, again.conflict) == (first.job_id, False, False)
    assert again.status is JobStatus.SUCCEEDED
    assert await count(pg) == 1


@pytest.mark.parametrize(
    "other",
    [
        job(idempotency_key="k", args={"a": 2}),
        job(idempotency_key="k", args={"a": 1}, queue="other"),
        job(idempotency_key="k", args={"a": 1}, task="other"),
        job(idempotency_key="k", args={"a": 1}, lock_key="l"),
        job(idempotency_key="k", args={"a": 1}, labels={"x": "y"}),
        job(idempotency_key="k", args={"a": 1}, priority=100),
    ],
)
async def test_the_same_key_with_another_request_is_a_conflict(pg: Connection, other: NewJob) -> None:
    (first,) = await answers(pg, job(idempotency_key="k", args={"a": 1}))

    (answer,) = await answers(pg, other)

    assert (answer.job_id, answer.created, answer.conflict) == (first.job_id, False, True)
    assert await count(pg) == 1


async def test_scopes_do_not_share_keys(pg: Connection) -> None:
    mine, yours = [
        (await INTAKE.enqueue(pg, [job(idempotency_key="k")], actor=None, scope=scope))[0] for scope in ("a", "b")
    ]

    assert mine.job_id != yours.job_id
    assert mine.created
    assert yours.created


async def test_the_key_of_a_pruned_job_answers_how_it_ended(pg: Connection) -> None:
    request = job(idempotency_key="k")
    (first,) = await answers(pg, request)
    (claimed,) = await claim(pg)
    await settle(pg, claimed.lease, SettleKind.FAILED, error={"type": "E", "message": "m"})
    await pg.execute("update dl_jobs set finished_at = now() - interval '2 days'")
    assert await RECOVERY.prune_jobs(pg, retention_days=1) == 1

    (again,) = await answers(pg, request)

    assert (again.job_id, again.status, again.created) == (first.job_id, JobStatus.FAILED, False)


async def test_the_key_of_a_job_that_was_deleted_by_hand_answers_lost(pg: Connection) -> None:
    request = job(idempotency_key="k")
    (first,) = await answers(pg, request)
    await pg.execute("delete from dl_jobs")

    (again,) = await answers(pg, request)

    assert (again.job_id, again.status, again.created) == (first.job_id, JobStatus.LOST, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"queue": "Upper"},
        {"queue": "q" * 64},
        {"queue": "q\n"},
        {"task": ""},
        {"task": "a b"},
        {"lock_key": ""},
        {"lock_key": "é" * 128},
        {"partition_key": "p" * 256},
        {"idempotency_key": ""},
        {"idempotency_key": "k" * 256},
        {"lock_key": "nul\x00"},
        {"args": {"text": "nul\x00"}},
        {"args": {"text": "\ud800"}},
        {"args": {"n": float("nan")}},
        {"args": {"n": float("inf")}},
        {"args": {"n": object()}},
        {"args": {"n": 10**200_000}},
        {"labels": {"n": 1}},
        {"priority": 32_768},
        {"max_attempts": 0},
        {"max_attempts": 101},
        {"max_losses": 0},
        {"timeout_s": 0.0},
        {"timeout_s": -1.0},
        {"stall_timeout_s": 0.0},
        {"available_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
        {"available_at": datetime(9999, 12, 31, 23, tzinfo=timezone(-timedelta(hours=2)))},
    ],
    ids="-".join,
)
async def test_a_bad_value_is_refused_and_nothing_of_the_batch_is_kept(pg: Connection, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        await answers(pg, job(), job(**fields))

    assert [await count(pg, table) for table in ("dl_jobs", "dl_idempotency", "dl_job_events")] == [0, 0, 0]


async def test_arguments_that_contain_themselves_are_refused(pg: Connection) -> None:
    args: dict[str, object] = {}
    args["self"] = args

    with pytest.raises(InvalidError):
        await answers(pg, job(args=args))


async def test_arguments_of_a_hundred_thousand_levels_are_refused(pg: Connection) -> None:
    args: dict[str, object] = {}
    for _ in range(100_000):
        args = {"a": args}

    with pytest.raises(InvalidError):
        await answers(pg, job(args=args))


async def test_limits_are_inclusive(pg: Connection) -> None:
    edges = {"priority": -32_768, "max_attempts": 100, "max_losses": 100, "lock_key": "é" * 127 + "e"}

    await enqueue(pg, job(queue="q" * 63, task="a_b.c-1", **edges), job(idempotency_key="k" * 255, priority=32_767))

    assert await count(pg) == 2


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    args=st.dictionaries(
        st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=10),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(-1e15, 1e15)
            | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner),
            max_leaves=8,
        ),
        max_size=4,
    )
)
async def test_arguments_arrive_as_they_were_sent_and_their_replay_is_no_conflict(
    pg: Connection, args: dict[str, object]
) -> None:
    request = job(args=args, idempotency_key="k")
    transaction = pg.transaction()
    await transaction.start()
    try:
        first, again = await answers(pg, request, request)
        (claimed,) = await claim(pg, 1)
    finally:
        await transaction.rollback()

    assert claimed.args == args
    assert (first.created, again.created, again.conflict) == (True, False, False)


class TestInTheCallersTransaction:
    """What the caller rolls back has never been enqueued."""

    async def test_asyncpg(self, pg: Connection) -> None:
        transaction = pg.transaction()
        await transaction.start()
        (answer,) = await INTAKE.enqueue(pg, [job(idempotency_key="k")], actor=None, notify=True)
        assert answer.created
        await transaction.rollback()

        assert [await count(pg, table) for table in ("dl_jobs", "dl_idempotency", "dl_job_events")] == [0, 0, 0]

    async def test_asyncpg_with_a_json_codec_of_the_callers_own(self, pg: Connection) -> None:
        await pg.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

        (answer,) = await INTAKE.enqueue(pg, [job(args={"a": 1})], actor=None)

        assert await look(pg, answer.job_id, "args") == ({"a": 1},)

    async def test_a_sqlalchemy_connection(self, pg: Connection, engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await INTAKE.enqueue(connection, [job(idempotency_key="k", args={"a": ["x"]})], actor=None)
            await connection.rollback()
            assert await count(pg) == 0
            (answer,) = await INTAKE.enqueue(connection, [job(idempotency_key="k", args={"a": ["x"]})], actor=None)
            await connection.commit()

        assert answer.created
        assert await look(pg, answer.job_id, "args") == ('{"a": ["x"]}',)

    async def test_a_sqlalchemy_session(self, pg: Connection, engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            await INTAKE.enqueue(session, [job(), job()], actor=None)
            await session.rollback()
            assert await count(pg) == 0
            (answer,) = await INTAKE.enqueue(session, [job()], actor=None)
            await session.commit()

        assert await look(pg, answer.job_id, "status") == ("queued",)

    async def test_a_refusal_reads_the_same_through_sqlalchemy(self, engine: AsyncEngine) -> None:
        async with AsyncSession(engine) as session:
            with pytest.raises(InvalidError):
                await INTAKE.enqueue(session, [job(queue="No Such Name")], actor=None)

    async def test_an_error_that_is_nobodys_fault_is_passed_on_as_it_is(
        self, pg: Connection, engine: AsyncEngine
    ) -> None:
        nowhere = IntakeRepository("nowhere")
        with pytest.raises(asyncpg.InvalidSchemaNameError):
            await nowhere.enqueue(pg, [job()], actor=None)
        async with AsyncSession(engine) as session:
            with pytest.raises(DBAPIError):
                await nowhere.enqueue(session, [job()], actor=None)

    async def test_cancel_and_retry_work_in_it_too(self, pg: Connection, engine: AsyncEngine) -> None:
        lease = await running(pg)
        await settle(pg, lease, SettleKind.FAILED)
        async with AsyncSession(engine) as session:
            retried = await INTAKE.retry(session, lease.job_id, from_start=False, actor="me")
            canceled = await INTAKE.cancel(session, lease.job_id, actor="me")
            await session.commit()

        assert retried is not None
        assert canceled is not None
        assert (retried.before, canceled.before) == ("failed", "queued")
        assert await kinds(pg, lease.job_id) == ["created", "claimed", "failed", "retried", "canceled"]
