"""Triggers that arrive together."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from dataloader.api.v1.desk import TriggerDesk
from dataloader.domain.jobs import Enqueued, NewJob
from dataloader.exceptions import InvalidError
from dataloader.storage.db import Connection as Pg
from dataloader.storage.notify_listener import ANYTHING
from tests.api.scene import Scene

LANES = (
    "select pg_terminate_backend(pid) from pg_stat_activity"
    " where datname = current_database() and application_name = 'dataloader triggers'"
)

BACKENDS = "select pid, replace(application_name, 'dataloader ', '') as name from pg_stat_activity"


@pytest.fixture
def desk(scene: Scene) -> TriggerDesk:
    """The running desk of the application."""
    desk: TriggerDesk = scene.app.state.services.desk
    return desk


async def _transactions(pg: Pg) -> int:
    return int(await pg.fetchval("select count(distinct xmin::text) from dl_jobs"))


async def test_many_triggers_at_once_take_few_transactions_and_each_gets_its_own_job(desk: TriggerDesk, pg: Pg) -> None:
    jobs = [NewJob("q", "t", args={"n": n}) for n in range(200)]

    answers = await asyncio.gather(*(desk.enqueue(job, actor="a") for job in jobs))

    rows = {row["job_id"]: row["n"] for row in await pg.fetch("select job_id, (args->>'n')::int as n from dl_jobs")}
    assert [rows[UUID(str(answer.job_id))] for answer in answers] == list(range(200))
    assert await _transactions(pg) <= 6


async def test_a_job_keeps_the_actor_who_asked_for_it(desk: TriggerDesk, pg: Pg) -> None:
    await asyncio.gather(*(desk.enqueue(NewJob("q", "t"), actor=f"a{n % 3}") for n in range(30)))

    counts = await pg.fetch("select created_by, count(*) from dl_jobs group by 1 order by 1")
    assert [tuple(row) for row in counts] == [("a0", 10), ("a1", 10), ("a2", 10)]


async def test_a_job_that_the_database_refuses_spoils_nobody_elses(desk: TriggerDesk, pg: Pg) -> None:
    good = [desk.enqueue(NewJob("q", "t"), actor="a") for _ in range(5)]
    bad = desk.enqueue(NewJob("q", "t", priority=10**6), actor="a")

    answers = await asyncio.gather(*good, bad, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Enqueued] * 5 + [InvalidError]
    assert await pg.fetchval("select count(*) from dl_jobs") == 5


async def test_a_conflict_is_told_to_the_one_who_made_it(desk: TriggerDesk) -> None:
    first = await desk.enqueue(NewJob("q", "t", idempotency_key="k"), actor="a")

    same, other, new = await asyncio.gather(
        desk.enqueue(NewJob("q", "t", idempotency_key="k"), actor="a"),
        desk.enqueue(NewJob("q", "u", idempotency_key="k"), actor="a"),
        desk.enqueue(NewJob("q", "t"), actor="a"),
    )

    assert (same.job_id, same.created, same.conflict) == (first.job_id, False, False)
    assert (other.job_id, other.conflict) == (first.job_id, True)
    assert new.created


async def test_connections_cut_between_two_triggers_are_not_noticed(desk: TriggerDesk, pg: Pg) -> None:
    await desk.enqueue(NewJob("q", "t"), actor="a")
    await pg.execute(LANES)

    answers = await asyncio.gather(*(desk.enqueue(NewJob("q", "t"), actor="a") for _ in range(20)))

    assert all(answer.created for answer in answers)
    assert await pg.fetchval("select count(*) from dl_jobs") == 21


async def test_a_missing_table_is_each_requests_own_trouble_and_ends_nothing(desk: TriggerDesk, pg: Pg) -> None:
    await pg.execute("alter table dl_idempotency rename to hidden")
    try:
        with pytest.raises(Exception, match="migrate"):
            await desk.enqueue(NewJob("q", "t", idempotency_key="k"), actor="a")
    finally:
        await pg.execute("alter table hidden rename to dl_idempotency")

    assert (await desk.enqueue(NewJob("q", "t", idempotency_key="k2"), actor="a")).created


async def test_what_waits_when_the_service_stops_is_still_written(scene: Scene, desk: TriggerDesk, pg: Pg) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(desk.enqueue(NewJob("q", "t"), actor="a")) for _ in range(20)]
        await asyncio.sleep(0)
        scene.stop.set()
    late = await desk.enqueue(NewJob("q", "t"), actor="a")

    assert all(task.result().created for task in tasks)
    assert late.created
    assert await pg.fetchval("select count(*) from dl_jobs") == 21


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_commit_that_is_not_confirmed_is_asked_for_again_and_written_once(
    desk: TriggerDesk, pg: Pg, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    enqueue = desk._ctx.intake.enqueue
    lost = iter([True, False])

    async def unheard(*arguments: Any, **options: Any) -> list[Enqueued]:
        answers = await enqueue(*arguments, **options)
        if next(lost):
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return answers

    monkeypatch.setattr(desk._ctx.intake, "enqueue", unheard)
    answer = await desk.enqueue(NewJob("q", "t", idempotency_key=key), actor="a")

    assert answer.created
    assert [row["job_id"] for row in await pg.fetch("select job_id from dl_jobs")] == [answer.job_id]


async def test_what_the_server_refuses_at_its_commit_is_tried_again(desk: TriggerDesk, pg: Pg) -> None:
    await pg.execute(
        "create sequence tries;"
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin if nextval('tries') = 1 then raise 'not now'; end if; return null; end $$;"
        "create constraint trigger refuse after insert on dl_jobs deferrable initially deferred"
        " for each row execute function refuse()"
    )
    try:
        answer = await desk.enqueue(NewJob("q", "t"), actor="a")
    finally:
        await pg.execute("drop function refuse cascade; drop sequence tries")

    assert [row["job_id"] for row in await pg.fetch("select job_id from dl_jobs")] == [answer.job_id]


async def test_a_refusal_by_a_key_of_somebody_elses_is_no_sign_of_an_earlier_try(desk: TriggerDesk, pg: Pg) -> None:
    await pg.execute("create unique index theirs on dl_jobs (created_by)")
    try:
        assert (await desk.enqueue(NewJob("q", "t"), actor="a")).created
        with pytest.raises(asyncpg.UniqueViolationError, match="theirs"):
            await desk.enqueue(NewJob("q", "t"), actor="a")
    finally:
        await pg.execute("drop index theirs")

    assert await pg.fetchval("select count(*) from dl_jobs") == 1


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        (1, [("triggers", "queue:q"), ("notifier", "queue:z")]),
        (3, [("notifier", "queue:q"), ("notifier", "queue:z")]),
    ],
)
async def test_others_hear_of_a_lone_trigger_from_its_commit_and_of_several_from_the_notifier(
    scene: Scene, desk: TriggerDesk, pg: Pg, jobs: int, said: list[tuple[str, str]]
) -> None:
    heard: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
    await pg.add_listener("dl_public", lambda _, pid, __, payload: heard.put_nowait((pid, str(payload))))
    here: asyncio.Queue[str] = asyncio.Queue()
    scene.ctx.listener.subscribe("queue", here.put_nowait)
    if not scene.ctx.listener.connected:
        assert await here.get() == ANYTHING

    await asyncio.gather(*(scene.trigger() for _ in range(jobs)))
    scene.ctx.notifier.announce(["queue:z"])
    told = [await asyncio.wait_for(heard.get(), 5) for _ in said]
    await pg.execute("select pg_notify('dl_public', 'queue:end')")
    told_here = [await asyncio.wait_for(here.get(), 5) for _ in range(jobs + 2)]

    names = {row["pid"]: row["name"] for row in await pg.fetch(BACKENDS)}
    assert [(names[pid], payload) for pid, payload in told] == said
    assert told_here == ["q"] * jobs + ["z", "end"]


async def test_a_batch_waits_for_a_held_key_only_briefly_and_only_that_job_is_refused(
    desk: TriggerDesk, pg: Pg, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pg.transaction():
        await pg.execute("select dl_enqueue('q', 't', idempotency_key => 'held')")
        held = asyncio.create_task(desk.enqueue(NewJob("q", "t", idempotency_key="held"), actor="a"))
        began_s = time.monotonic()
        free = await asyncio.gather(*(desk.enqueue(NewJob("q", "t"), actor="a") for _ in range(5)))
        took_s = time.monotonic() - began_s
    answer = await held

    assert all(one.created for one in free)
    assert took_s < 2
    assert not answer.created
