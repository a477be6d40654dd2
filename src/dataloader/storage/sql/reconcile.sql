-- Give back claims of this worker whose answer never reached it, uncharged.
-- What it holds is looked up in a hash (not in): as an anti-join, planned when little ran, each run is compared with each lease.
-- $1 worker, $2 epochs and $3 job ids it really holds, $4 seconds a claim must be old, against racing one's own claim in flight
with stray as materialized (
  select j.job_id
    from {schema}.dl_jobs j
   where j.worker_id = $1 and j.status = 'running' and j.started_at < clock_timestamp() - make_interval(secs => $4)
     and (j.job_id, j.epoch) not in (select h.job_id, h.epoch from unnest($3::uuid[], $2::integer[]) as h(job_id, epoch))
   order by j.job_id
     for no key update skip locked
), returned as (
  update {schema}.dl_jobs j
     set status = case when j.cancel_requested then 'canceled' else 'queued' end, attempt = greatest(j.attempt - 1, 0),
         handovers = j.handovers + 1, lease_expires_at = null, available_at = clock_timestamp(),
         finished_at = case when j.cancel_requested then clock_timestamp() end,
         ready = not j.cancel_requested and j.lock_key is null and j.partition_key is null and j.hold_reason is null
    from stray s
   where j.job_id = s.job_id and j.status = 'running'
  returning j.*
), logged as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select r.job_id, case when r.status = 'queued' then 'handed_over' else r.status end, r.status, r.epoch, r.attempt, 'worker:' || $1,
         '{"reason": "the claim''s answer never arrived"}'
    from returned r
)
select r.job_id, r.epoch, r.status, r.attempt, r.queue, r.lock_key, r.partition_key, r.ready from returned r
