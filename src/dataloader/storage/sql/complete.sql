-- Runs that succeeded and left neither result nor progress, which most of a busy queue's runs are: each becomes succeeded,
-- guarded by its fence as in the exchange; a row that somebody else has locked is left out.
-- $1 job ids, $2 epochs, $3 actor
-- The rows are locked one by one, by the primary key, and then written in the order in which they lie.
-- The answer is one row: the keys that are free now, and, if some runs were not written, those that were.
with locked as materialized (
  select j.tid
    from unnest($1::uuid[], $2::integer[]) as e(job_id, epoch)
   cross join lateral (
     select c.ctid as tid
       from {schema}.dl_jobs c
      where c.job_id = e.job_id and case when c.epoch = e.epoch and c.status = 'running' then 1 else 0 end <> 0
        for no key update skip locked) j
), settled as (
  update {schema}.dl_jobs j
     set status = 'succeeded', lease_expires_at = null, finished_at = clock_timestamp(), error = null, result = null
   where j.ctid = any (array(select l.tid from locked l))
  returning j.job_id, j.epoch, j.attempt, j.lock_key, j.partition_key, j.progress->'done' as done
), settled_log as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select s.job_id, 'succeeded', 'succeeded', s.epoch, s.attempt, $3,
         case when s.done is null then '{}' else jsonb_strip_nulls(jsonb_build_object('done', s.done)) end
    from settled s
)
select array_agg(s.lock_key::text) filter (where s.lock_key is not null) as lock_keys,
       array_agg(s.partition_key::text) filter (where s.partition_key is not null) as partition_keys,
       case when count(*) < cardinality($1) then coalesce(array_agg(s.job_id), '{}') end as job_ids,
       case when count(*) < cardinality($1) then coalesce(array_agg(s.epoch), '{}') end as epochs
  from settled s
