-- Extend every lease of a process at once; never waits. Answers per lease: ok, busy (its own chunk holds the row), lost.
-- $1 job ids, $2 epochs, $3 progress or null, $4 lease in seconds
with held as (
  select * from unnest($1::uuid[], $2::integer[], $3::jsonb[]) as h(job_id, epoch, progress)
), locked as materialized (
  select h.job_id, h.progress
    from held h
   cross join lateral (
     select from {schema}.dl_jobs c
      where c.job_id = h.job_id and c.epoch = h.epoch and c.status = 'running'
        for no key update skip locked) j
), beaten as (
  update {schema}.dl_jobs j
     set heartbeat_at = clock_timestamp(), lease_expires_at = clock_timestamp() + make_interval(secs => $4),
         progress = coalesce(l.progress, j.progress)
    from locked l
   where j.job_id = l.job_id
  returning j.job_id, j.epoch, j.cancel_requested
)
select h.job_id, h.epoch,
       case when b.job_id is not null then 'ok' when c.epoch = h.epoch and c.status = 'running' then 'busy' else 'lost' end as verdict,
       coalesce(b.cancel_requested, c.cancel_requested, false) as cancel_requested
  from held h
  left join beaten b on b.job_id = h.job_id and b.epoch = h.epoch
  left join {schema}.dl_jobs c on c.job_id = h.job_id
