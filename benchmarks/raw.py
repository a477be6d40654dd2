"""The limit: what asyncpg does with a table like ours and no service around it."""

from __future__ import annotations

import time

from dataloader.config import Settings
from dataloader.storage.db import Connection, connect

SCHEMA = """
drop table if exists raw_jobs, raw_events;
create table raw_jobs (
  job_id uuid primary key default gen_random_uuid(), queue text not null, task text not null,
  args jsonb not null default '{}',
  status text not null default 'queued', attempt int not null default 0, priority smallint not null default 100,
  available_at timestamptz not null default clock_timestamp(), seq bigint generated always as identity,
  started_at timestamptz, finished_at timestamptz);
create index raw_jobs_ready_ix on raw_jobs (queue, priority, available_at, seq) where status = 'queued';
create table raw_events (event_id bigint generated always as identity primary key, job_id uuid not null,
  at timestamptz not null default clock_timestamp(), kind text not null);
create index raw_events_job_ix on raw_events (job_id, event_id);
"""
FILL = "insert into raw_jobs (queue, task) select 'bench', 'bench.noop' from generate_series(1, $1)"
CLAIM = """
with picked as materialized (
  select job_id from raw_jobs where status = 'queued' and queue = $1
   order by priority, available_at, seq limit $2 for no key update skip locked
), claimed as (
  update raw_jobs j set status = 'running', attempt = attempt + 1, started_at = clock_timestamp()
    from picked p where j.job_id = p.job_id returning j.job_id, j.task, j.args
), logged as (insert into raw_events (job_id, kind) select job_id, 'claimed' from claimed)
select job_id, task, args from claimed
"""
SETTLE = """
with done as (
  update raw_jobs set status = 'succeeded', finished_at = clock_timestamp()
   where job_id = any ($1::uuid[]) and status = 'running' returning job_id
), logged as (insert into raw_events (job_id, kind) select job_id, 'succeeded' from done)
select count(*) from done
"""
INSERT_MANY = """
with created as (
  insert into raw_jobs (queue, task, args) select * from unnest($1::text[], $2::text[], $3::jsonb[]) returning job_id
)
insert into raw_events (job_id, kind) select job_id, 'created' from created
"""


async def prepare(connection: Connection, jobs: int) -> None:
    """Create the tables anew and fill them."""
    await connection.execute(SCHEMA)
    await connection.execute(FILL, jobs)
    await connection.execute("analyze raw_jobs")


async def drain(settings: Settings, *, jobs: int, batch: int) -> float:
    """Claim and complete everything on one connection, with history; return jobs per second."""
    connection = await connect(settings, purpose="bench raw")
    try:
        await prepare(connection, jobs)
        started_s = time.perf_counter()
        while rows := await connection.fetch(CLAIM, "bench", batch):
            await connection.fetchval(SETTLE, [row["job_id"] for row in rows])
        return jobs / (time.perf_counter() - started_s)
    finally:
        await connection.close()


async def fill_rate(settings: Settings, jobs: int) -> float:
    """Return rows per second of one bare insert from generate_series."""
    connection = await connect(settings, purpose="bench raw", command_timeout_s=120)
    try:
        await connection.execute("truncate raw_jobs, raw_events")
        started_s = time.perf_counter()
        await connection.execute(FILL, jobs)
        return jobs / (time.perf_counter() - started_s)
    finally:
        await connection.close()
