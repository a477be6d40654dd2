-- Record how runs ended, each guarded by its fence; a run whose lease is gone changes nothing. A row that somebody else
-- has locked is left out, so that it does not hold up the others of the batch; its run is settled later.
-- $1 job ids, $2 epochs, $3 kinds, $4 delays in seconds, $5 errors, $6 results, $7 progress, $8 start-over flags,
-- $9 data for the audit log, $10 actor
with ended as (
  select *
    from unnest($1::uuid[], $2::integer[], $3::text[], $4::float8[], $5::jsonb[], $6::jsonb[], $7::jsonb[], $8::boolean[], $9::jsonb[])
      as e(job_id, epoch, kind, delay_s, error, result, progress, start_over, data)
), locked as materialized (
  select e.*, j.attempt, j.max_attempts, j.checkpoint_epoch, j.cancel_requested
    from (select * from ended order by job_id) e
   cross join lateral (
     select c.attempt, c.max_attempts, c.checkpoint_epoch, c.cancel_requested
       from {schema}.dl_jobs c
      where c.job_id = e.job_id and c.epoch = e.epoch and c.status = 'running'
        for no key update skip locked) j
), decided as (
  select l.*, n.attempt as new_attempt,
         case when l.kind = 'succeeded' then 'succeeded'
              when l.cancel_requested or l.kind = 'canceled' then 'canceled'
              when l.kind in ('handed_over', 'retry_later') then 'queued'
              when l.kind = 'retry' and n.attempt < l.max_attempts then 'queued'
              else 'failed' end as new_status
    from locked l,
 lateral (select case when l.kind in ('handed_over', 'retry_later') then greatest(l.attempt - 1, 0)
                      when l.start_over and l.checkpoint_epoch = l.epoch then 1
                      else l.attempt end as attempt) n
), settled as (
  update {schema}.dl_jobs j
     set status = d.new_status, attempt = d.new_attempt, lease_expires_at = null,
         handovers = j.handovers + (d.new_status = 'queued' and d.kind = 'handed_over')::integer,
         available_at = case when d.new_status = 'queued' then clock_timestamp() + make_interval(secs => least(greatest(d.delay_s, 0), 1e9)) else j.available_at end,
         ready = d.new_status = 'queued' and d.delay_s <= 0 and j.lock_key is null and j.partition_key is null,
         finished_at = case when d.new_status = 'queued' then null else clock_timestamp() end,
         blocks_partition = d.new_status = 'failed' and j.partition_key is not null
                            and exists (select from {schema}.dl_tasks t where t.task = j.task and t.on_partition_failure = 'block'),
         error = case when d.new_status = 'succeeded' then null else coalesce(d.error, j.error) end,
         result = d.result, progress = coalesce(d.progress, j.progress)
    from decided d
   where j.job_id = d.job_id and j.epoch = d.epoch and j.status = 'running'
  returning j.job_id, j.epoch, j.status, j.attempt, j.queue, j.lock_key, j.partition_key, j.ready, j.available_at, d.kind, d.error, d.data,
            j.progress->'done' as done
), logged as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select s.job_id, case when s.status <> 'queued' then s.status when s.kind = 'retry' then 'retry_scheduled' else s.kind end,
         s.status, s.epoch, s.attempt, $10,
         s.data || jsonb_strip_nulls(jsonb_build_object(
           'error', s.error, 'done', s.done, 'available_at', case when s.status = 'queued' then s.available_at end))
    from settled s
)
select s.job_id, s.epoch, s.status, s.attempt, s.queue, s.lock_key, s.partition_key, s.ready from settled s
