"""Jobs from plain SQL: the function, and a bare INSERT."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest

from dataloader.domain.jobs import Keys
from dataloader.storage.db import Connection
from tests.storage.scene import PROMOTION, answers, claim, job, kinds, look, promote


async def test_the_function_enqueues_with_everything_a_request_may_have(pg: Connection) -> None:
    job_id = await pg.fetchval(
        "select dl_enqueue('q', 't', '{\"a\": 1}', idempotency_key => 'k', lock_key => 'l', partition_key => 'p',"
        " priority => 5, available_at => '2020-01-01T00:00Z', max_attempts => 2, max_losses => 4, timeout_s => 1.5,"
        ' stall_timeout_s => 2.5, labels => \'{"x": "y"}\')'
    )

    assert await look(pg, job_id, "args lock_key partition_key priority max_attempts max_losses labels") == (
        '{"a": 1}', "l", "p", 5, 2, 4, '{"x": "y"}'
    )  # fmt: skip
    assert await look(pg, job_id, "timeout_s stall_timeout_s created_by") == (1.5, 2.5, "postgres")
    assert await kinds(pg, job_id) == ["created"]


async def test_what_the_caller_leaves_out_has_the_defaults_of_a_request(pg: Connection) -> None:
    job_id = await pg.fetchval("select dl_enqueue('q', 't', args => null)")

    assert await look(pg, job_id, "args labels priority max_attempts ready") == ("{}", "{}", 100, 5, True)


async def test_the_same_key_answers_the_same_job_in_every_time_zone(pg: Connection) -> None:
    call = "select dl_enqueue('q', 't', idempotency_key => 'k', available_at => '2030-01-01T00:00Z')"
    ids = set()
    for zone in ("UTC", "Asia/Tokyo", "America/New_York"):
        await pg.execute(f"set time zone '{zone}'")
        ids.add(await pg.fetchval(call))

    assert len(ids) == 1


async def test_the_function_and_the_service_agree_on_what_the_same_request_is(pg: Connection) -> None:
    job_id = await pg.fetchval("select dl_enqueue('q', 't', '{\"b\": 1, \"a\": 2}', 'k', priority => 5)")

    (answer,) = await answers(pg, job(args={"a": 2, "b": 1}, idempotency_key="k", priority=5))

    assert (answer.job_id, answer.conflict) == (job_id, False)


async def test_another_request_under_the_key_is_an_error_that_names_the_job(pg: Connection) -> None:
    job_id = await pg.fetchval("select dl_enqueue('q', 't', idempotency_key => 'k')")

    with pytest.raises(asyncpg.UniqueViolationError, match="belongs to a different request") as caught:
        await pg.fetchval("select dl_enqueue('q', 't', '{\"a\": 1}', idempotency_key => 'k')")

    assert str(job_id) in str(caught.value.detail)


@pytest.mark.parametrize(
    "arguments",
    [
        "'q', 't', '[1]'",
        "'q', 't', '5'",
        "'q', 't', timeout_s => 'NaN'",
        "'q', 't', timeout_s => 'infinity'",
        "'q', 't', stall_timeout_s => 'NaN'",
        "'q', 't', available_at => 'infinity'",
        "'q', 't', available_at => '-infinity'",
        "'q', 't', available_at => '0001-12-31 BC'",
        "'q', 't', labels => '{\"a\": 1}'",
        "'q', 't', labels => '[]'",
        "'Q', 't'",
        "null, 't'",
    ],
)
async def test_a_value_that_a_worker_could_not_read_is_refused(pg: Connection, arguments: str) -> None:
    with pytest.raises((asyncpg.IntegrityConstraintViolationError, asyncpg.DataError)):
        await pg.fetchval(f"select dl_enqueue({arguments})")

    assert await pg.fetchval("select count(*) from dl_jobs") == 0


@pytest.mark.parametrize("batch", ['[{"queue": "q", "task": "t", "lockkey": "x"}]', '{"queue": "q"}', "[1]", '"x"'])
async def test_what_is_no_list_of_requests_is_refused(pg: Connection, batch: str) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await pg.fetch("select * from dl_enqueue_many($1)", batch)


async def test_jobs_get_the_ids_they_are_given_in_the_order_of_the_batch(pg: Connection) -> None:
    batch = (
        '[{"job_id": "%s", "queue": "q", "task": "b"}, {"queue": "q", "task": "c"},'
        ' {"job_id": "%s", "queue": "q", "task": "a"}]'
    )
    given = (UUID(int=2), UUID(int=1))

    rows = await pg.fetch("select job_id, created, ready from dl_enqueue_many($1)", batch % given)

    assert (rows[0]["job_id"], rows[2]["job_id"]) == given
    assert all(row["created"] and row["ready"] for row in rows)
    tasks = {row["job_id"]: row["task"] for row in await pg.fetch("select job_id, task from dl_jobs")}
    assert [tasks[row["job_id"]] for row in rows] == ["b", "c", "a"]


async def test_an_id_that_exists_is_refused_and_nothing_of_the_batch_is_written(pg: Connection) -> None:
    batch = (
        '[{"queue": "q", "task": "t"}, {"job_id": "00000000-0000-7000-8000-000000000001", "queue": "q", "task": "t"}]'
    )
    await pg.fetch("select * from dl_enqueue_many($1)", batch)

    with pytest.raises(asyncpg.UniqueViolationError, match="dl_jobs_pk"):
        await pg.fetch("select * from dl_enqueue_many($1)", batch)

    assert await pg.fetchval("select count(*) from dl_jobs") == 2


async def test_the_id_is_no_part_of_what_a_request_asks_for(pg: Connection) -> None:
    item = '[{"job_id": "%s", "queue": "q", "task": "t", "idempotency_key": "k"}]'

    rows = [await pg.fetchrow("select * from dl_enqueue_many($1)", item % UUID(int=n)) for n in (1, 2)]

    assert [(row["job_id"], row["created"], row["conflict"]) for row in rows if row] == [
        (UUID(int=1), True, False),
        (UUID(int=1), False, False),
    ]


async def test_the_callers_lock_timeout_is_his_own_again_afterwards(pg: Connection) -> None:
    async with pg.transaction():
        await pg.execute("set local lock_timeout = '7s'")
        await pg.fetch('select * from dl_enqueue_many(\'[{"queue": "q", "task": "t"}]\')')

        assert await pg.fetchval("show lock_timeout") == "7s"


async def heard(pg: Connection, listener: Connection, sql: str) -> list[str]:
    """Return what a listening session hears of a statement."""
    payloads: asyncio.Queue[str] = asyncio.Queue()
    await listener.add_listener("dl_public", lambda *told: payloads.put_nowait(str(told[-1])))
    await pg.execute(sql)
    await pg.execute("select pg_notify('dl_public', 'end')")
    said = []
    async with asyncio.timeout(5):
        while (payload := await payloads.get()) != "end":
            said.append(payload)
    return sorted(said)


@pytest.mark.parametrize(
    ("arguments", "payloads"),
    [
        ("'q', 't'", ["queue:q"]),
        ("'q', 't', lock_key => 'l'", ["promote"]),
        ("'q', 't', partition_key => 'p'", ["promote"]),
        ("'q', 't', available_at => now() + interval '1 hour'", []),
    ],
)
async def test_the_function_wakes_whom_it_concerns(
    pg: Connection, other: Connection, arguments: str, payloads: list[str]
) -> None:
    assert await heard(pg, other, f"select dl_enqueue({arguments})") == payloads


async def test_a_rolled_back_call_wakes_nobody(pg: Connection, other: Connection) -> None:
    assert await heard(pg, other, "begin; select dl_enqueue('q', 't'); rollback") == []


async def test_the_service_itself_stays_silent_inside_the_transaction(pg: Connection, other: Connection) -> None:
    await answers(pg, job())

    assert await heard(pg, other, "select 1") == []


async def test_a_bare_insert_is_found_by_the_sweep(pg: Connection) -> None:
    await pg.execute("insert into dl_jobs (queue, task) values ('q', 't')")
    assert await claim(pg) == []

    assert await PROMOTION.promote_due(pg) == {"q": 1}
    assert len(await claim(pg)) == 1


async def test_a_bare_insert_with_keys_is_found_by_the_sweep(pg: Connection) -> None:
    await pg.execute("insert into dl_jobs (queue, task, lock_key, partition_key) values ('q', 't', 'l', 'p')")

    keys = await PROMOTION.keys_due(pg, window_s=10)
    assert keys == Keys(frozenset("l"), frozenset("p"))
    assert await PROMOTION.promote(pg, keys) == {"q": 1}
    assert len(await claim(pg)) == 1


async def test_a_sweep_looks_back_as_far_as_it_is_told(pg: Connection) -> None:
    await pg.execute(
        "insert into dl_jobs (queue, task, lock_key, available_at)"
        " select 'q', 't', 'k' || n, clock_timestamp() + make_interval(mins => n) from generate_series(-2, 2) n"
    )

    assert (await PROMOTION.keys_due(pg, window_s=90)).locks == {"k0", "k-1"}
    assert (await PROMOTION.keys_due(pg, window_s=600)).locks == {"k0", "k-1", "k-2"}


async def test_the_scan_of_keys_goes_round_all_of_them(pg: Connection) -> None:
    for n in range(5):
        await answers(pg, *[job(lock_key=f"l{n}", partition_key=f"p{n}") for _ in range(3)])

    assert await PROMOTION.lock_keys_after(pg, "", 3) == ["l0", "l1", "l2"]
    assert await PROMOTION.lock_keys_after(pg, "l2", 3) == ["l3", "l4"]
    assert await PROMOTION.partition_keys_after(pg, "", 100) == ["p0", "p1", "p2", "p3", "p4"]
    assert await PROMOTION.partition_keys_after(pg, "p4", 100) == []


async def test_the_scan_leaves_out_keys_nobody_waits_for(pg: Connection) -> None:
    await answers(pg, job(lock_key="l", partition_key="p"))
    await promote(pg, "l", "p")
    await claim(pg)

    assert await PROMOTION.lock_keys_after(pg, "", 10) == []
    assert await PROMOTION.partition_keys_after(pg, "", 10) == []
