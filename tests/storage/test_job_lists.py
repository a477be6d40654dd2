"""What lists and explanations read, and that they read little of a large table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.config import Settings
from dataloader.domain.jobs import JobStatus
from dataloader.storage.db import Connection, open_engine
from dataloader.storage.queries import load_queries
from dataloader.storage.repositories.catalogue import CatalogueRepository
from dataloader.storage.repositories.jobs import COUNT_LIMIT, JobFilter, JobsRepository

JOBS = JobsRepository("public")
CATALOGUE = CatalogueRepository("public")


@pytest.fixture
async def connection(settings: Settings) -> AsyncIterator[AsyncConnection]:
    """A connection of the pool."""
    engine = open_engine(settings)
    async with engine.connect() as connection:
        yield connection
    await engine.dispose()


async def _insert(pg: Connection, count: int = 1, /, **columns: object) -> list[UUID]:
    """Insert jobs as plain SQL would, one after the other in time."""
    values = {"queue": "q", "task": "t"} | columns
    names = ", ".join(values)
    places = ", ".join(f"${n}" for n in range(2, len(values) + 2))
    rows = await pg.fetch(
        f"insert into dl_jobs (job_id, {names})"
        " select overlay(gen_random_uuid()::text placing lpad(to_hex(nextval('ids')), 8, '0') from 1 for 8)::uuid,"
        f" {places} from generate_series(1, $1) returning job_id",
        count,
        *values.values(),
    )
    return [row["job_id"] for row in rows]


@pytest.fixture(autouse=True)
async def _ids(pg: Connection) -> None:
    await pg.execute("create temporary sequence ids")


async def _finish(pg: Connection, job_id: UUID, error: str | None = None) -> None:
    await pg.execute(
        "update dl_jobs set status = 'failed', ready = false, finished_at = now(), error = $2 where job_id = $1",
        job_id,
        error,
    )


async def test_pages_go_from_the_newest_to_the_oldest_without_gap_or_repeat(
    connection: AsyncConnection, pg: Connection
) -> None:
    ids = await _insert(pg, 7)

    first = await JOBS.page(connection, JobFilter(), limit=4, before=None)
    second = await JOBS.page(connection, JobFilter(), limit=4, before=UUID(str(first[-1]["job_id"])))

    assert [row["job_id"] for row in first + second] == ids[::-1]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (JobFilter(queue="a"), {0}),
        (JobFilter(task="u"), {1}),
        (JobFilter(lock_key="l"), {2}),
        (JobFilter(partition_key="p"), {3}),
        (JobFilter(labels={"team": "x"}), {4, 5}),
        (JobFilter(labels={"team": "x", "env": "y"}), {5}),
        (JobFilter(statuses=frozenset({JobStatus.FAILED})), {6}),
        (JobFilter(statuses=frozenset({JobStatus.FAILED, JobStatus.QUEUED})), {0, 1, 2, 3, 4, 5, 6, 7}),
        (JobFilter(created_before=datetime.now(UTC) - timedelta(days=1)), {7}),
        (JobFilter(created_after=datetime.now(UTC) - timedelta(days=1), queue="a"), {0}),
        (JobFilter(queue="a", task="u"), set()),
    ],
)
async def test_filters_show_what_matches_all_of_them(
    connection: AsyncConnection, pg: Connection, wanted: JobFilter, found: set[int]
) -> None:
    rows: list[dict[str, str | datetime]] = [
        {"queue": "a"}, {"task": "u"}, {"lock_key": "l"}, {"partition_key": "p"}, {"labels": '{"team": "x"}'},
        {"labels": '{"team": "x", "env": "y"}'}, {}, {"created_at": datetime.now(UTC) - timedelta(days=2)},
    ]  # fmt: skip
    ids = [(await _insert(pg, **row))[0] for row in rows]
    await _finish(pg, ids[6])

    page = await JOBS.page(connection, wanted, limit=50, before=None)

    assert {ids.index(UUID(str(row["job_id"]))) for row in page} == found


async def test_a_list_shows_errors_cut_short_and_without_their_traceback(
    connection: AsyncConnection, pg: Connection
) -> None:
    [job_id] = await _insert(pg)
    await _finish(pg, job_id, '{"type": "E", "message": "%s", "traceback": "deep"}' % ("m" * 5_000))

    [row] = await JOBS.page(connection, JobFilter(), limit=1, before=None)

    assert row["error"] == {"type": "E", "message": "m" * 500}


async def test_statuses_of_many_jobs_come_in_one_answer(connection: AsyncConnection, pg: Connection) -> None:
    first, second = await _insert(pg, 2)
    await _finish(pg, second)

    found = await JOBS.statuses(connection, [first, second, uuid4()])

    assert found == {first: JobStatus.QUEUED, second: JobStatus.FAILED}


async def test_events_come_in_order_after_the_given_one(connection: AsyncConnection, pg: Connection) -> None:
    job_id = await pg.fetchval("select dl_enqueue('q', 't')")
    await pg.execute("select dl_cancel($1)", job_id)

    events = await JOBS.events(connection, job_id, after=0, limit=10)
    rest = await JOBS.events(connection, job_id, after=int(str(events[0]["event_id"])), limit=10)

    assert [event["kind"] for event in events] == ["created", "canceled"]
    assert [event["kind"] for event in rest] == ["canceled"]


async def _rows_read(pg: Connection, sql: str, *values: object) -> int:
    """Return how many rows of `dl_jobs` and its indexes a statement reads."""
    await pg.execute("select pg_stat_force_next_flush()")
    counted = (
        "select seq_tup_read + coalesce(idx_tup_fetch, 0)"
        " + (select coalesce(sum(idx_tup_read), 0) from pg_stat_user_indexes where relname = 'dl_jobs')"
        " from pg_stat_user_tables where relname = 'dl_jobs'"
    )
    before = await pg.fetchval(counted)
    await pg.fetch(sql, *values)
    await pg.execute("select pg_stat_force_next_flush()")
    await pg.execute("select pg_stat_clear_snapshot()")
    return int(await pg.fetchval(counted) - before)


async def test_explaining_a_job_reads_little_of_a_large_queue(pg: Connection) -> None:
    await _insert(pg, 8_000, ready=True)
    await _insert(pg, 2_000, lock_key="l")
    [job_id] = await _insert(pg, ready=True, priority=30_000)
    await pg.execute("analyze dl_jobs")

    read = await _rows_read(pg, load_queries("public").why, job_id, 1_000)

    assert read <= 2 * 1_000 + 100


async def test_the_census_reads_no_finished_jobs_and_counts_no_further_than_its_limit(pg: Connection) -> None:
    await _insert(pg, 8_000, ready=True)
    await _insert(pg, 500, queue="later", available_at=datetime.now(UTC) + timedelta(days=1))
    await _insert(pg, 8_000, queue="old", status="failed", finished_at=datetime.now(UTC))
    await pg.execute("analyze dl_jobs")

    read = await _rows_read(pg, load_queries("public").queue_census, 1_000)

    assert read <= 2 * (1_000 + 500) + 200


async def test_the_census_tells_ready_from_waiting_and_due_from_not_due(
    connection: AsyncConnection, pg: Connection
) -> None:
    await _insert(pg, COUNT_LIMIT + 5, ready=True)
    await _insert(pg, 300, queue="later", available_at=datetime.now(UTC) + timedelta(days=1))
    await _insert(pg, 200, queue="keyed", lock_key="l", available_at=datetime.now(UTC) - timedelta(seconds=60))
    await _insert(pg, queue="old", status="failed", finished_at=datetime.now(UTC))

    queues = {entry.queue: entry for entry in await CATALOGUE.queues(connection)}

    assert (queues["q"].ready, queues["later"].waiting, queues["keyed"].waiting) == (COUNT_LIMIT, 300, 200)
    assert queues["later"].oldest_due_s is None
    assert 60 <= (queues["keyed"].oldest_due_s or 0) < 120
    assert "old" not in queues


async def test_queues_of_live_workers_and_tasks_are_known_without_a_job(
    connection: AsyncConnection, pg: Connection
) -> None:
    await pg.execute("insert into dl_tasks (task, queue, doc) values ('t', 'tasks-queue', '')")
    for queue, expires in (("live", "1 hour"), ("gone", "-1 hour")):
        await pg.execute(
            "insert into dl_workers (worker_id, host, pid, version, queues, tasks, takes, expires_at) values"
            " (gen_random_uuid(), 'h', 1, 'v', jsonb_build_object($1::text, 3), '{t}',"
            " jsonb_build_object($1::text, array['t']), now() + $2::text::interval)",
            queue,
            expires,
        )

    queues = {entry.queue: entry for entry in await CATALOGUE.queues(connection)}

    assert set(queues) == {"tasks-queue", "live"}
    assert (queues["live"].workers, queues["live"].slots) == (1, 3)
    assert [worker["alive"] for worker in await CATALOGUE.workers(connection)] == [True, False]
    assert await CATALOGUE.live_workers(connection) == 1
