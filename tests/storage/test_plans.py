"""Plans at size: hot statements go by index and read a bounded number of rows, whatever the statistics say."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import Lease
from dataloader.storage.db import Connection, connect
from dataloader.storage.queries import exchange_of, load_queries
from dataloader.storage.repositories.queue import QueueRepository
from dataloader.storage.repositories.recovery import RecoveryRepository
from tests.conftest import _connect, _database, _settings
from tests.storage.scene import SCHEMA, WORKER, alive, answers, claim_after, job, pause

SQL = load_queries(SCHEMA)
CLAIMING = exchange_of(SCHEMA, 1, settling=False)
TIMES = 10 if os.environ.get("DL_CHAOS") == "full" else 1
"""A million rows by `make chaos`, a tenth of that in the suite; the bounds are the same."""

PAGES = 16
"""Most pages that a row may cost."""

RUNNING = 500
DUE = 500
EXPIRED = 20

_FILL = f"""
alter table dl_jobs set (autovacuum_enabled = off);
-- Finished, delayed, behind one busy key, behind many keys, in partitions, ready, running.
insert into dl_jobs (queue, task, status, attempt, epoch, finished_at, worker_id)
  select 'q', 't', 'succeeded', 1, 1, now() - make_interval(secs => n), '{WORKER}'
    from generate_series(1, {60_000 * TIMES}) n;
insert into dl_jobs (queue, task, available_at)
  select 'q', 't', now() + make_interval(secs => 3600 + n) from generate_series(1, {15_000 * TIMES}) n;
insert into dl_jobs (queue, task, lock_key) select 'q', 't', 'busy' from generate_series(1, {10_000 * TIMES}) n;
insert into dl_jobs (queue, task, lock_key, available_at)
  select 'q', 't', 'k' || n % 200, now() - interval '1 hour' from generate_series(1, {4_000 * TIMES}) n;
insert into dl_jobs (queue, task, partition_key, available_at)
  select 'q', 't', 'p' || n % 200, now() - interval '1 hour' from generate_series(1, {4_000 * TIMES}) n;
insert into dl_jobs (queue, task, ready, priority)
  select 'q' || n % 2, 't', true, n % 10 from generate_series(1, {6_000 * TIMES}) n;
insert into dl_jobs (queue, task, available_at)
  select 'due', 't', now() - interval '1 second' from generate_series(1, {DUE}) n;
insert into dl_jobs (queue, task, status, epoch, attempt, worker_id, started_at, lease_expires_at)
  select 'q', 't', 'running', 1, 1, '{WORKER}', now(),
         now() + make_interval(secs => case when n <= {EXPIRED} then -n else 3600 end)
    from generate_series(1, {RUNNING}) n;
insert into dl_job_events (job_id, kind, status, epoch, attempt) select job_id, 'created', 'queued', 0, 0 from dl_jobs;
insert into dl_idempotency (scope, key, fingerprint, job_id, created_at, final_status)
  select 'default', 'k' || n, '', gen_random_uuid(), now() - make_interval(hours => 1 + n / 10),
         case when n % 2 = 0 then 'failed' end
    from generate_series(1, {10_000 * TIMES}) n;
"""


@pytest.fixture(scope="module", params=["stale statistics", "fresh statistics"])
def big_database(server: dict[str, object], template: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database of many jobs: in one the planner knows nothing of them, in the other all."""
    with _database(server, f'create database {{}} template "{template}"') as name:
        asyncio.run(_fill(server, name, analyzed=request.param == "fresh statistics"))
        yield name


async def _fill(server: dict[str, object], name: str, *, analyzed: bool) -> None:
    connection = await _connect(_settings(server, name))
    await connection.execute(_FILL)
    if analyzed:
        await connection.execute("vacuum analyze dl_jobs, dl_job_events, dl_idempotency")
    await connection.close()


@pytest.fixture(params=["force_custom_plan", "force_generic_plan"])
async def big(
    server: dict[str, object], big_database: str, request: pytest.FixtureRequest
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection whose work is rolled back; planned with the values, and without knowing them."""
    connection = await _connect(_settings(server, big_database))
    await connection.execute(f"set plan_cache_mode = {request.param}; set statement_timeout = '20s'; begin")
    yield connection
    await connection.execute("rollback")
    await connection.close()


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every node of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def plan_of(pg: Connection, sql: str, values: str) -> list[dict[str, Any]]:
    """Execute a statement; return the nodes of its plan with what they did."""
    await pg.execute(f"prepare it as {sql}")
    text = await pg.fetchval(
        f"explain (analyze, buffers, timing off, format json) execute it{f'({values})' if values else ''}"
    )
    await pg.execute("deallocate it")
    return list(nodes(json.loads(text)[0]["Plan"]))


def rows_read(plan: list[dict[str, Any]], table: str = "dl_jobs") -> float:
    """Return how many rows of a table a plan looked at."""
    scans = [node for node in plan if node.get("Relation Name") == table and "Scan" in node["Node Type"]]
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    per_loop: list[float] = [node["Actual Rows"] + sum(node.get(name, 0) for name in removed) for node in scans]
    return float(sum(rows * node["Actual Loops"] for rows, node in zip(per_loop, scans, strict=True)))


def pages_read(plan: list[dict[str, Any]]) -> int:
    """Return how many pages a plan looked at, each as often as it did."""
    return int(plan[0]["Shared Hit Blocks"] + plan[0]["Shared Read Blocks"])


def fifty(value: str) -> str:
    """Return an array of fifty equal values in SQL."""
    return f"array_fill({value}, array[50])"


_ENDS = (
    "1",
    "'succeeded'::text",
    "0::float8",
    "null::jsonb",
    "null::jsonb",
    "null::jsonb",
    "false",
    "'{}'::jsonb",
)

_NONE_WITH_ERRORS = "'{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', 'actor'"
_NO_ENDS = f"{_NONE_WITH_ERRORS}, '{{}}', '{{}}'"
_START = "-32768, '-infinity', 0"
_CLAIM = f"'q1', '{{t}}', 50, '{WORKER}', 60, false, 60, {_START}"
_NO_CLAIM = f"'', '{{}}', 0, '{WORKER}', 60, false, 60, {_START}"

CASES: dict[str, tuple[str, int]] = {
    "exchange that claims": (f"{_NO_ENDS}, {_CLAIM}", 3 * 50),
    "promote_due": ("1000", 2 * DUE),
    "keys_due": ("86400, 1000", 1_000),
    "lock_keys_after": ("'', 100", 101),
    "partition_keys_after": ("'', 100", 101),
    "reap": ("500, 0, 'reaper', clock_timestamp()", RUNNING + 2 * EXPIRED),
    "reconcile": (f"'{WORKER}', '{{}}', '{{}}', 3600", RUNNING),
    "heartbeat": (f"$held, {fifty('1')}, {fifty('null::jsonb')}, 60", 3 * 50),
    "exchange that settles": (f"$held, {', '.join(map(fifty, _ENDS))}, 'actor', '{{}}', '{{}}', {_NO_CLAIM}", 3 * 50),
    "exchange": (f"{_NONE_WITH_ERRORS}, $held, {fifty('1')}, {_CLAIM}", 6 * 50),
    "complete": (f"$held, {fifty('1')}, 'actor'", 3 * 50),
    "checkpoint": ("$one, 1, '{}', null, 60, null", 3),
    "fate": ("$held", 50),
    "prune_jobs": ("0.5, 100", 2 * 100),
}


async def with_jobs(pg: Connection, values: str) -> str:
    """Fill in the ids of jobs that run."""
    rows = await pg.fetch("select job_id from dl_jobs where worker_id is not null and status = 'running' limit 50")
    held = ",".join(str(row["job_id"]) for row in rows)
    return values.replace("$held", f"'{{{held}}}'").replace("$one", f"'{rows[0]['job_id']}'")


@pytest.mark.parametrize("name", CASES)
async def test_a_hot_statement_goes_hot_and_reads_a_bounded_number_of_rows(big: Connection, name: str) -> None:
    values, limit = CASES[name]
    sql = CLAIMING if name == "exchange that claims" else getattr(SQL, name.partition(" ")[0])

    plan = await plan_of(big, sql, await with_jobs(big, values))

    assert not [node for node in plan if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "dl_jobs"]
    assert rows_read(plan) <= limit
    assert rows_read(plan) > 0
    assert pages_read(plan) <= PAGES * limit + 50


@pytest.mark.parametrize("known", [0, 1, 2, 3, 5, 10, 50])
async def test_a_claim_keeps_its_plan_when_the_queue_was_nearly_empty_as_statistics_were_taken(
    big: Connection, known: int
) -> None:
    await big.execute(
        f"delete from dl_jobs where queue in ('q0', 'q1');"
        f"insert into dl_jobs (queue, task, ready) select 'q1', 't', true from generate_series(1, {known});"
        f"analyze dl_jobs;"
        f"insert into dl_jobs (queue, task, ready) select 'q1', 't', true from generate_series(1, 3000)"
    )

    values, limit = CASES["exchange that claims"]
    assert rows_read(await plan_of(big, CLAIMING, values)) <= limit


@pytest.mark.parametrize("tasks", [1, 2, 20])
async def test_a_claim_reads_only_jobs_of_tasks_it_knows_and_of_those_a_few(big: Connection, tasks: int) -> None:
    known = [f"t{number}" for number in range(tasks)]
    await big.execute(
        "insert into dl_jobs (queue, task, ready, priority)"
        " select 'q1', 'unknown', true, 0 from generate_series(1, 3000)"
    )
    await big.execute(
        "insert into dl_jobs (queue, task, ready, priority)"
        " select 'q1', t, true, n from unnest($1::text[]) t, generate_series(1, 100) n",
        known,
    )
    claim = _CLAIM.replace("{t}", f"{{{','.join(known)}}}")

    plan = await plan_of(big, exchange_of(SCHEMA, tasks, settling=False), f"{_NO_ENDS}, {claim}")

    assert rows_read(plan) <= 3 * 50 + 2 * tasks


async def test_a_claim_from_a_mark_does_not_step_over_what_was_claimed_before_it(big: Connection) -> None:
    """What this transaction has claimed stays in the index until it ends, as it would under an old snapshot."""
    await big.execute("insert into dl_jobs (queue, task, ready) select 'q', 't', true from generate_series(1, 20000)")
    for _ in range(35):
        _, reached = await claim_after(big, limit=500)
    assert reached.position is not None
    priority, available_at, seq = reached.position
    claim = _CLAIM.replace("q1", "q")
    from_the_start = await plan_of(big, CLAIMING, f"{_NO_ENDS}, {claim}")
    mark = f"{priority}, '{available_at}', {seq}"
    from_the_mark = await plan_of(big, CLAIMING, f"{_NO_ENDS}, {claim.replace(_START, mark)}")

    assert rows_read(from_the_mark) <= 3 * 50
    assert pages_read(from_the_mark) <= 14 * 50
    assert pages_read(from_the_start) > pages_read(from_the_mark) + 500


@pytest.mark.parametrize("name", ["exchange", "exchange that claims", "complete"])
@pytest.mark.parametrize("analyzed", [True, False])
async def test_a_plan_that_was_kept_from_an_empty_table_goes_hot_in_a_full_one(
    direct: Settings, pg: Connection, analyzed: bool, name: str
) -> None:
    """Behind a transaction pooler no plan is kept."""
    if analyzed:
        await pg.execute("analyze dl_jobs, dl_job_events")
    connection = await connect(direct, purpose="test", hot=True)
    values, limit = CASES[name]
    sql = CLAIMING if name == "exchange that claims" else getattr(SQL, name)
    await connection.execute(f"set plan_cache_mode = force_generic_plan; prepare it as {sql}")
    unknown = values.replace("$held", fifty(f"'{WORKER}'::uuid"))
    for _ in range(2):
        await connection.execute(f"execute it({unknown})")
    await pg.execute(
        "insert into dl_jobs (queue, task, ready) select 'q1', 't', true from generate_series(1, 5000);"
        "insert into dl_jobs (queue, task, status, finished_at)"
        " select 'q1', 't', 'succeeded', now() from generate_series(1, 20000);"
        f"insert into dl_jobs (queue, task, status, epoch, worker_id, lease_expires_at)"
        f" select 'q1', 't', 'running', 1, '{WORKER}', now() from generate_series(1, 3000)"
    )
    values = await with_jobs(pg, values)
    text = await connection.fetchval(f"explain (analyze, timing off, format json) execute it({values})")
    connection.terminate()

    assert rows_read(list(nodes(json.loads(text)[0]["Plan"]))) <= limit + 50


async def test_with_a_plan_from_an_empty_table_ten_thousand_runs_are_not_compared_with_each_lease(
    direct: Settings, pg: Connection
) -> None:
    connection = await connect(direct, purpose="test", hot=True)
    queue, recovery = QueueRepository(SCHEMA, lease_s=60), RecoveryRepository(SCHEMA)
    await queue.heartbeat(connection, {Lease(WORKER, 1): None})
    await recovery.reconcile(connection, worker_id=WORKER, held=[], age_s=0)
    rows = await pg.fetch(
        "insert into dl_jobs (queue, task, status, epoch, worker_id, started_at, lease_expires_at)"
        f" select 'q1', 't', 'running', 1, '{WORKER}', now(), now() from generate_series(1, 10000) returning job_id"
    )
    leases = [Lease(row["job_id"], 1) for row in rows]
    await connection.execute("set statement_timeout = '4s'")

    beats = await queue.heartbeat(connection, dict.fromkeys(leases))
    given_back = await recovery.reconcile(connection, worker_id=WORKER, held=leases[1:], age_s=0)
    connection.terminate()

    assert len(beats) == len(leases)
    assert [one.lease for one in given_back] == leases[:1]


async def test_keys_are_pruned_without_looking_at_those_whose_jobs_live(big: Connection) -> None:
    plan = await plan_of(big, SQL.prune_keys, "100")

    assert not [node for node in plan if node["Node Type"] == "Seq Scan" and node["Relation Name"] == "dl_idempotency"]
    assert rows_read(plan, "dl_idempotency") <= 3 * 100


_LINEAGE = f"""
create temporary table told on commit drop as
  select job_id from dl_jobs where status = 'succeeded' limit 25;
insert into dl_chunks (job_id, epoch, attempt, source, rows_in, rows_out, rejected, ms)
  select job_id, 1, 1, 's', 1, 1, 0, 1 from (select job_id from dl_jobs limit {10_000 * TIMES}) j;
insert into dl_chunks (job_id, epoch, attempt, source, rows_in, rows_out, rejected, ms)
  select job_id, 1, 1, 's' || n % 2, 1, 1, 0, 1 from told, generate_series(1, 20) n;
insert into dl_job_events (job_id, kind, status, epoch, attempt)
  select job_id, 'claimed', 'running', 1, 1 from told union all select job_id, 'succeeded', 'succeeded', 1, 1 from told;
"""


_LINEAGE_LIMITS: dict[str, tuple[str, dict[str, int]]] = {
    "lineage_events": ("{last} - 50, {last}, 50", {"dl_job_events": 50 + 50, "dl_jobs": 50, "dl_chunks": 50 * 21}),
    "lineage_take": (f"'{WORKER}', 60", {"dl_job_events": 1}),
    "lineage_sent": (f"'{WORKER}', 1, 60", {"dl_lineage": 1}),
    "lineage_freed": (f"'{WORKER}'", {"dl_lineage": 1}),
    "lineage_schema": ("'public', 'dl_jobs'", {"pg_class": 2, "pg_namespace": 20, "pg_attribute": 60}),
}


@pytest.mark.parametrize("analyzed", [True, False])
async def test_lineage_reads_what_it_tells_of_and_no_more(big: Connection, analyzed: bool) -> None:
    await big.execute(f"set local enable_seqscan = off; {_LINEAGE}")
    await big.fetchrow(SQL.lineage_take, WORKER, 60.0)
    if analyzed:
        await big.execute("analyze dl_chunks, dl_job_events, dl_lineage")
    last = await big.fetchval("select max(event_id) from dl_job_events")

    for name, (values, limits) in _LINEAGE_LIMITS.items():
        plan = await plan_of(big, getattr(SQL, name), values.format(last=last))
        for table, limit in limits.items():
            assert 0 < rows_read(plan, table) <= limit, (name, table)
        assert pages_read(plan) <= PAGES * sum(limits.values()) + 50, name


async def _scans(pg: Connection) -> tuple[int, int]:
    """Return how often jobs were read from end to end in this transaction, and how many were fetched by index."""
    row = await pg.fetchrow("select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'dl_jobs'")
    assert row is not None
    return row["seq_scan"] or 0, row["idx_tup_fetch"] or 0


async def test_a_promotion_behind_a_busy_key_looks_at_a_few_of_the_jobs_behind_it(big: Connection) -> None:
    seq_before, idx_before = await _scans(big)
    for _ in range(10):
        await big.fetch("select * from dl_promote('{busy}', '{}')")
        await big.execute("update dl_jobs set ready = false, status = 'running', worker_id = gen_random_uuid(), "
                          "lease_expires_at = now() where lock_key = 'busy' and ready")  # fmt: skip
    seq_after, idx_after = await _scans(big)

    assert seq_after == seq_before
    assert idx_after - idx_before < 10 * 60


@pytest.mark.parametrize("state", ["paused", "unserved"])
async def test_a_promotion_steps_over_a_queue_that_nobody_takes_from_in_one_look(big: Connection, state: str) -> None:
    await big.execute("insert into dl_jobs (queue, task, lock_key, priority) values ('r', 't', 'busy', 200)")
    await alive(big, *["q", "r"][state == "unserved" :])
    if state == "paused":
        await pause(big, "q")
    _, idx_before = await _scans(big)
    (row,) = await big.fetch("select * from dl_promote('{busy}', '{}')")
    _, idx_after = await _scans(big)

    assert tuple(row) == ("r", 1)
    assert idx_after - idx_before < 60


async def test_an_offer_that_gives_way_costs_a_few_looks(big: Connection) -> None:
    await big.fetch("select * from dl_promote('{busy}', '{}')")
    await big.execute(
        "update dl_jobs set offered_at = offered_at - interval '3 seconds' where ready and lock_key = 'busy'"
    )
    await big.execute("insert into dl_jobs (queue, task, lock_key) values ('r', 't', 'busy')")
    await alive(big, "r")
    _, idx_before = await _scans(big)
    (row,) = await big.fetch("select * from dl_promote('{busy}', '{}')")
    _, idx_after = await _scans(big)

    assert tuple(row) == ("r", 1)
    assert idx_after - idx_before < 60


async def test_a_promotion_of_two_hundred_keys_looks_at_a_few_jobs_each(big: Connection) -> None:
    seq_before, idx_before = await _scans(big)
    row = await big.fetchrow(
        "select * from dl_promote((select array_agg('k' || n) from generate_series(0, 199) n),"
        " (select array_agg('p' || n) from generate_series(0, 199) n))"
    )
    seq_after, idx_after = await _scans(big)

    assert row is not None
    assert row["offered"] == 400
    assert seq_after == seq_before
    assert idx_after - idx_before < 400 * 30


@pytest.mark.parametrize("kind", ["lock_key", "partition_key"])
async def test_a_promotion_does_not_look_at_the_turns_of_other_keys(big: Connection, kind: str) -> None:
    await big.execute(
        f"insert into dl_jobs (queue, task, status, epoch, worker_id, lease_expires_at, {kind})"
        f" select 'q', 't', 'running', 1, '{WORKER}', now(), 'taken' || n from generate_series(1, 20000) n"
    )
    _, idx_before = await _scans(big)
    keys = f"(select array_agg('{kind[0].replace('l', 'k')}' || n) from generate_series(0, 199) n)"
    arguments = ", ".join([keys, "'{}'"] if kind == "lock_key" else ["'{}'", keys])
    row = await big.fetchrow(f"select * from dl_promote({arguments})")
    _, idx_after = await _scans(big)

    assert row is not None
    assert row["offered"] == 200
    assert idx_after - idx_before < 200 * 30


async def test_an_enqueue_a_cancel_and_a_retry_read_no_table_from_end_to_end(big: Connection) -> None:
    seq_before, _ = await _scans(big)
    ids = [answer.job_id for answer in await answers(big, *[job(idempotency_key=f"n{n}") for n in range(100)])]
    await big.fetch("select * from dl_cancel($1)", ids[0])
    await big.fetch("select * from dl_retry($1)", ids[0])

    assert (await _scans(big))[0] == seq_before
