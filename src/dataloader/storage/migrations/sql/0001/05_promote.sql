create function {schema}.dl_lock_kinds(p_lock_keys text[]) returns table (lock_key text, queue text, task text, served boolean)
language plpgsql stable
as $$
#variable_conflict use_column
begin
  -- Not in SQL: before version 18 such a function is planned again by every statement that calls it.
  return query
  with recursive kind as (
    select k.lock_key, k.queue, k.task
      from unnest(p_lock_keys) l,
   lateral (select j.lock_key, j.queue, j.task from {schema}.dl_jobs j
             where j.lock_key = l and j.status = 'queued'
             order by j.queue, j.task limit 1) k
    union all
    select n.lock_key, n.queue, n.task
      from kind k,
   lateral (select j.lock_key, j.queue, j.task from {schema}.dl_jobs j
             where j.lock_key = k.lock_key and j.status = 'queued' and (j.queue, j.task) > (k.queue, k.task)
             order by j.queue, j.task limit 1) n
  ), fleet as materialized (
    select w.takes from {schema}.dl_workers w where w.expires_at > statement_timestamp() and not w.stopping
  )
  select k.lock_key::text, k.queue::text, k.task::text,
         not exists (select from fleet) or exists (select from fleet f where f.takes->k.queue ? k.task)
    from kind k
   where not exists (select from {schema}.dl_queues q where q.queue = k.queue and q.paused_at is not null);
end $$
--;
comment on function {schema}.dl_lock_kinds(text[]) is
'Queues and tasks of the jobs behind lock keys, paused queues left out; served: a live worker takes them, or there is none at all'
--;
create function {schema}.dl_promote(
  p_lock_keys text[],
  p_partition_keys text[],
  p_offer_ttl interval default '2 seconds'
) returns table (queue text, offered integer)
language plpgsql volatile
set lock_timeout = '3s'
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  v_locks text[];
  v_partitions text[];
  v_offered uuid[];
  v_more uuid[];
  v_now timestamptz;
begin
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'dl_promote needs READ COMMITTED: its second look must be a fresh one' using errcode = 'active_sql_transaction';
  end if;

  -- Lock in one statement, look in the next: a lock taken late says nothing about a snapshot taken early.
  perform pg_advisory_xact_lock(k.hash)
     from (select hashtextextended('{schema_name}.' || l, 1) as hash from unnest(p_lock_keys) l
           union
           select hashtextextended('{schema_name}.' || p, 2) from unnest(p_partition_keys) p
           order by 1) as k;

  -- A job with both keys needs both turns; the second key is only tried, so that no two callers wait for each other.
  if cardinality(p_partition_keys) > 0 then
    select array_agg(s.lock_key) into v_locks
      from (select distinct h.lock_key
              from unnest(p_partition_keys) p,
           lateral (select j.lock_key, j.status from {schema}.dl_jobs j
                     where j.partition_key = p and (j.status = 'queued' or j.blocks_partition)
                     order by j.seq limit 1) h
             where h.status = 'queued' and h.lock_key <> all (p_lock_keys)) s
     where pg_try_advisory_xact_lock(hashtextextended('{schema_name}.' || s.lock_key, 1));
  end if;
  if exists (select from {schema}.dl_jobs j where j.partition_key is not null and j.status = 'queued') then
    select array_agg(s.partition_key) into v_partitions
      from (select distinct c.partition_key
              from {schema}.dl_lock_kinds(p_lock_keys) k,
           lateral (select j.partition_key from {schema}.dl_jobs j
                     where j.lock_key = k.lock_key and j.queue = k.queue and j.task = k.task and j.status = 'queued'
                     order by j.priority, j.available_at, j.seq limit (select 10)) c
             where c.partition_key <> all (p_partition_keys)) s
     where pg_try_advisory_xact_lock(hashtextextended('{schema_name}.' || s.partition_key, 2));
  end if;
  v_locks := array(select distinct unnest(p_lock_keys || v_locks));
  v_partitions := array(select distinct unnest(p_partition_keys || v_partitions));
  v_now := clock_timestamp();

  -- An offer that no live worker can take must not hold the key of one that can be taken. Where all workers are merely busy
  -- it stands: were it withdrawn for the next one's sake, fresh jobs would overtake it without end.
  -- Without a key the array is empty, which the planner takes as leave to read any partial index from end to end.
  if cardinality(v_locks) > 0 then
    update {schema}.dl_jobs j
       set ready = false
     where j.job_id = any (array(
       select o.job_id from {schema}.dl_jobs o
        where o.lock_key = any (v_locks) and o.ready and o.offered_at < v_now - p_offer_ttl
          and not exists (select from {schema}.dl_lock_kinds(array[o.lock_key]) k where k.queue = o.queue and k.task = o.task and k.served)
          and (select true
                 from {schema}.dl_lock_kinds(array[o.lock_key]) k,
              lateral (select from {schema}.dl_jobs c
                        where c.lock_key = k.lock_key and c.queue = k.queue and c.task = k.task and c.status = 'queued'
                          and case when not c.ready and c.hold_reason is null and c.available_at <= v_now then 1 else 0 end <> 0
                        limit 1) c
                where k.served
                limit 1)
          for no key update skip locked));
  end if;

  -- The first that fits is found by walking the index in order, once for each queue and task behind the key, so that those
  -- which nobody serves cost one look however many they are. A join, or a filter that the planner takes to hold for few
  -- rows, would make it read and sort everything behind a busy key: hence the case. Whether a key is free is a subquery of
  -- its own for the same reason: as an anti-join it would compare each key with every turn that is taken.
  with free as materialized (
    select l from unnest(v_locks) l
     where (select true from {schema}.dl_jobs t where t.lock_key = l and (t.ready or t.status = 'running') limit 1) is null
  ), picked as materialized (
    select distinct on (k.lock_key) c.job_id
      from {schema}.dl_lock_kinds(array(select f.l from free f)) k,
   lateral (select j.job_id, j.priority, j.available_at, j.seq from {schema}.dl_jobs j
             where j.lock_key = k.lock_key and j.queue = k.queue and j.task = k.task and j.status = 'queued'
               and case when not j.ready and j.hold_reason is null and j.available_at <= v_now
                         and (j.partition_key is null
                              or (j.partition_key = any (v_partitions)
                                  and not exists (select from {schema}.dl_jobs t
                                                   where t.partition_key = j.partition_key and (t.ready or t.status = 'running'))
                                  and not exists (select from {schema}.dl_jobs h
                                                   where h.partition_key = j.partition_key and h.seq < j.seq
                                                     and (h.status = 'queued' or h.blocks_partition))))
                        then 1 else 0 end <> 0
             order by j.priority, j.available_at, j.seq
             limit 1
               for no key update skip locked) c
     order by k.lock_key, not k.served, c.priority, c.available_at, c.seq
  ), offered as (
    update {schema}.dl_jobs j set ready = true, offered_at = v_now
     where j.job_id = any (array(select p.job_id from picked p))
    returning j.job_id
  )
  select array_agg(o.job_id) into v_offered from offered o;

  if cardinality(v_partitions) > 0 then
    -- What is left are heads without a lock key: those with one have had their chance above.
    with head as (
      select h.* from unnest(v_partitions) p,
     lateral (select j.job_id, j.status, j.queue, j.lock_key, j.hold_reason, j.available_at
                from {schema}.dl_jobs j
               where j.partition_key = p and (j.status = 'queued' or j.blocks_partition)
               order by j.seq limit 1) h
       where (select true from {schema}.dl_jobs t where t.partition_key = p and (t.ready or t.status = 'running') limit 1) is null
    ), fit as (
      select h.job_id
        from head h
       where h.status = 'queued' and h.lock_key is null and h.hold_reason is null and h.available_at <= v_now
         and (select q.paused_at from {schema}.dl_queues q where q.queue = h.queue) is null
    ), picked as materialized (
      select j.job_id from {schema}.dl_jobs j
       where j.job_id = any (array(select f.job_id from fit f)) and j.status = 'queued' and not j.ready
         for no key update skip locked
    ), offered as (
      update {schema}.dl_jobs j set ready = true, offered_at = v_now
       where j.job_id = any (array(select p.job_id from picked p))
      returning j.job_id
    )
    select array_agg(o.job_id) into v_more from offered o;
  end if;

  return query
  select j.queue::text, count(*)::integer from {schema}.dl_jobs j where j.job_id = any (v_offered || v_more) group by j.queue;
end $$
--;
comment on function {schema}.dl_promote(text[], text[], interval) is
'Offer at most one due job per lock key and per partition, where the key is free; call it in a transaction of its own'
