create function {schema}.dl_enqueue_many(
  p_jobs jsonb,
  p_scope text default 'default',
  p_actor text default session_user,
  p_notify boolean default true,
  p_lock_timeout text default '3s'
) returns table (job_id uuid, status text, created boolean, conflict boolean, ready boolean)
language plpgsql volatile
as $$
#variable_conflict use_column
declare
  v_ids uuid[];
  v_known text[] := '{job_id,queue,task,args,idempotency_key,lock_key,partition_key,priority,available_at,max_attempts,max_losses,timeout_s,stall_timeout_s,labels}';
  v_keyed boolean;
  v_parted boolean;
  v_strange boolean;
  v_named boolean;
  v_owners uuid[];
  v_conflicts boolean[];
  v_finals text[];
  v_ready boolean[];
  v_payloads text[];
  v_now timestamptz;
  v_patience text := current_setting('lock_timeout');
  v_set text := set_config('lock_timeout', p_lock_timeout, true);
begin
  select bool_or(e.item->>'idempotency_key' is not null), bool_or(e.item->>'partition_key' is not null), bool_or(e.item - v_known <> '{}'),
         bool_or(e.item->>'job_id' is not null)
    into v_keyed, v_parted, v_strange, v_named
    from jsonb_array_elements(p_jobs) as e(item);
  if v_strange then
    raise exception 'unknown field "%" in a job',
      (select f from jsonb_array_elements(p_jobs) as e(item), jsonb_object_keys(e.item) as f where f <> all (v_known) limit 1)
      using errcode = 'invalid_parameter_value';
  end if;
  if v_named then
    v_ids := array(select coalesce((e.item->>'job_id')::uuid, {schema}.dl_uuid7()) from jsonb_array_elements(p_jobs) with ordinality as e(item, n) order by e.n);
  else
    v_ids := array(select {schema}.dl_uuid7() from generate_series(1, jsonb_array_length(p_jobs)) order by 1);
  end if;
  v_owners := v_ids;

  -- Insert, then look in a new statement: the winner of a race is not in the snapshot of the loser's insert. What is
  -- found counts until the end: a key that is pruned meanwhile still answers its job.
  for i in 1..3 loop
    exit when not v_keyed;
    insert into {schema}.dl_idempotency as k (scope, key, fingerprint, job_id)
    select distinct on (e.item->>'idempotency_key') p_scope, e.item->>'idempotency_key', {schema}.dl_fingerprint(e.item), v_ids[e.n::integer]
      from jsonb_array_elements(p_jobs) with ordinality as e(item, n)
     where e.item->>'idempotency_key' is not null
     order by e.item->>'idempotency_key', e.n
        on conflict do nothing;
    select array_agg(case when e.item->>'idempotency_key' is null then v_ids[e.n::integer] else k.job_id end order by e.n),
           array_agg(k.job_id <> v_ids[e.n::integer] and k.fingerprint <> {schema}.dl_fingerprint(e.item) order by e.n),
           array_agg(k.final_status order by e.n)
      into v_owners, v_conflicts, v_finals
      from jsonb_array_elements(p_jobs) with ordinality as e(item, n)
      left join lateral (
        select i.job_id, i.fingerprint, i.final_status from {schema}.dl_idempotency i
         where i.scope = p_scope and i.key = e.item->>'idempotency_key' limit 1) k on true;
    exit when array_position(v_owners, null) is null;
  end loop;
  if array_position(v_owners, null) is not null then
    raise exception 'an idempotency key is being removed at this moment, try again' using errcode = 'serialization_failure';
  end if;

  -- The partition's lock is held until commit, so seq orders a partition as its jobs were acknowledged. Partitions share
  -- 1,024 locks: one each would fill the server's lock table, which all its databases share.
  if v_parted then
    perform pg_advisory_xact_lock(p.hash)
       from (select distinct hashtextextended('{schema_name}.' || (hashtextextended(e.item->>'partition_key', 3) & 1023), 3) as hash
               from jsonb_array_elements(p_jobs) as e(item)
              where e.item->>'partition_key' is not null
              order by 1) as p;
  end if;

  v_now := clock_timestamp();
  with request as materialized (
    select e.n, v_ids[e.n::integer] as id, e.item, coalesce((e.item->>'available_at')::timestamptz, v_now) as due_at
      from jsonb_array_elements(p_jobs) with ordinality as e(item, n)
     where not v_keyed or v_owners[e.n::integer] = v_ids[e.n::integer]
  ), inserted as (
    insert into {schema}.dl_jobs as j (
      job_id, queue, task, args, lock_key, partition_key, priority, available_at, created_at, max_attempts, max_losses,
      timeout_s, stall_timeout_s, labels, created_by, ready)
    select r.id, r.item->>'queue', r.item->>'task', coalesce(nullif(r.item->'args', 'null'), '{}'), r.item->>'lock_key', r.item->>'partition_key',
           coalesce((r.item->>'priority')::smallint, 100), r.due_at, v_now,
           coalesce((r.item->>'max_attempts')::smallint, (t.options->>'max_attempts')::smallint, 5),
           coalesce((r.item->>'max_losses')::smallint, (t.options->>'max_losses')::smallint, 3),
           (r.item->>'timeout_s')::float8, (r.item->>'stall_timeout_s')::float8, coalesce(nullif(r.item->'labels', 'null'), '{}'), p_actor,
           r.due_at <= v_now and r.item->>'lock_key' is null and r.item->>'partition_key' is null
      from request r
      left join {schema}.dl_tasks t on t.task = r.item->>'task'
     order by r.n
    returning j.job_id, j.status, j.epoch, j.attempt, j.queue, j.ready, j.lock_key, j.partition_key, j.seq
  ), logged as (
    insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor)
    select i.job_id, 'created', i.status, i.epoch, i.attempt, p_actor from inserted i
  )
  select array_agg(i.ready order by i.seq),
         array_agg(distinct case when i.ready then 'queue:' || i.queue else 'promote' end)
           filter (where p_notify and (i.ready or i.lock_key is not null or i.partition_key is not null))
    into v_ready, v_payloads
    from inserted i;
  if v_payloads is not null then
    perform pg_notify('dl_{schema_name}', w.payload) from unnest(v_payloads) as w(payload);
  end if;

  v_set := set_config('lock_timeout', v_patience, true);
  if not v_keyed then
    return query select v_ids[e.n], 'queued', true, false, v_ready[e.n] from generate_series(1, cardinality(v_ids)) as e(n) order by e.n;
    return;
  end if;
  return query
  select v_owners[e.n],
         coalesce(j.status, v_finals[e.n], (select k.final_status from {schema}.dl_idempotency k where k.job_id = v_owners[e.n]), 'lost'),
         v_owners[e.n] = v_ids[e.n], coalesce(v_conflicts[e.n], false), coalesce(j.ready, false)
    from generate_series(1, cardinality(v_ids)) as e(n)
    left join lateral (select i.status, i.ready from {schema}.dl_jobs i where i.job_id = v_owners[e.n] limit 1) j on true
   order by e.n;
end $$
--;
comment on function {schema}.dl_enqueue_many(jsonb, text, text, boolean, text) is
'Enqueue an array of job objects in the caller''s transaction; answers one row per item in order'
--;
create function {schema}.dl_enqueue(
  queue text,
  task text,
  args jsonb default '{}',
  idempotency_key text default null,
  lock_key text default null,
  partition_key text default null,
  priority integer default null,
  available_at timestamptz default null,
  max_attempts integer default null,
  max_losses integer default null,
  timeout_s float8 default null,
  stall_timeout_s float8 default null,
  labels jsonb default null,
  scope text default 'default'
) returns uuid
language plpgsql volatile
set timezone = 'UTC'
as $$
declare
  v_answer record;
begin
  select * into v_answer
    from {schema}.dl_enqueue_many(
      jsonb_build_array(jsonb_build_object(
        'queue', $1, 'task', $2, 'args', $3, 'idempotency_key', $4, 'lock_key', $5, 'partition_key', $6, 'priority', $7,
        'available_at', $8, 'max_attempts', $9, 'max_losses', $10, 'timeout_s', $11, 'stall_timeout_s', $12, 'labels', $13)),
      p_scope => $14);
  if v_answer.conflict then
    raise exception 'idempotency key "%" belongs to a different request', $4
      using errcode = 'unique_violation', detail = format('It created job %s.', v_answer.job_id);
  end if;
  return v_answer.job_id;
end $$
--;
comment on function {schema}.dl_enqueue(text, text, jsonb, text, text, text, integer, timestamptz, integer, integer, float8, float8, jsonb, text) is
'Enqueue one job in the caller''s transaction and wake the workers at its commit; answers the job''s id'
