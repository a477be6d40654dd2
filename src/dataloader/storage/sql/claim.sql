-- Claim ready jobs of one queue: mark them running under a new epoch and lease.
-- $1 queue, $2 tasks this process knows, $3 free slots, $4 worker, $5 lease in seconds,
-- $6 whether the process is idle, $7 seconds after which a job that was lost before may run beside others
-- The planner must walk the index in order, also when its statistics know of no ready jobs: it is told that the filter
-- holds for nearly every row (case) and that few of them are wanted (a subquery as limit), or it sorts all that are ready.
with visible as materialized (
  select j.job_id, j.losses, row_number() over (order by j.priority, j.available_at, j.seq) as place
    from (select c.job_id, c.losses, c.priority, c.available_at, c.seq
            from {schema}.dl_jobs c
           where c.ready and c.queue = $1
             and case when c.task = any ($2::text[])
                       and (c.losses = 0 or $6 or c.available_at < clock_timestamp() - make_interval(secs => $7))
                      then 1 else 0 end <> 0
             and not exists (select from {schema}.dl_queues q where q.queue = $1 and q.paused_at is not null)
           order by c.priority, c.available_at, c.seq
           limit (select $3::bigint)
             for no key update skip locked) j
), picked as materialized (
  select v.job_id from visible v
   where not $6 or (case when (select f.losses from visible f where f.place = 1) > 0 then v.place = 1 else v.losses = 0 end)
), claimed as (
  update {schema}.dl_jobs j
     set status = 'running', ready = false, attempt = j.attempt + 1, epoch = j.epoch + 1, worker_id = $4,
         started_at = t.now, heartbeat_at = t.now, lease_expires_at = t.now + make_interval(secs => $5)
    from (select clock_timestamp() as now) t
   where j.job_id = any (array(select p.job_id from picked p))
  returning j.*
), logged as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select c.job_id, 'claimed', 'running', c.epoch, c.attempt, 'worker:' || c.worker_id,
         jsonb_strip_nulls(jsonb_build_object('checkpoint', c.checkpoint, 'done', c.progress->'done'))
    from claimed c
)
select c.job_id, c.epoch, c.queue, c.task, c.args, c.attempt, c.max_attempts, c.losses, c.checkpoint, c.progress, c.lock_key,
       c.partition_key, c.timeout_s, c.stall_timeout_s, c.cancel_requested, c.created_at, c.available_at, c.started_at
  from claimed c
 order by c.priority, c.available_at, c.seq
