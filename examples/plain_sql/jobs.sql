-- One job, due now; the answer is its id.
select public.dl_enqueue('noop', 'noop', '{"chunks": 2}') as job_id;

-- The same job however often this is run: the second call answers the id of the first.
select public.dl_enqueue('noop', 'noop', idempotency_key => 'nightly-2026-01-31');
select public.dl_enqueue('noop', 'noop', idempotency_key => 'nightly-2026-01-31');

-- Later, more urgent than others, never beside another job with this lock key.
select public.dl_enqueue(
    'noop', 'noop',
    lock_key => 'table:rates',
    priority => 10,
    available_at => now() + interval '1 second',
    max_attempts => 2,
    labels => '{"team": "treasury"}');

-- Many in one statement: one row per job, in order.
select job_id, status, created, conflict
  from public.dl_enqueue_many('[
    {"queue": "noop", "task": "noop", "args": {"chunks": 1}},
    {"queue": "noop", "task": "noop", "args": {}, "idempotency_key": "nightly-2026-01-31"}
  ]');

-- A bare insert works too. It has no idempotency, and a worker finds it at the next sweep.
insert into public.dl_jobs (queue, task, args, created_by) values ('noop', 'noop', '{"chunks": 3}', session_user);
