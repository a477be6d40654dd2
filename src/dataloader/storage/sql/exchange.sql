-- One exchange of a worker: record how runs ended, then claim for the slots that are free.
-- Settle: each write is guarded by its fence; a run whose lease is gone changes nothing. A row that somebody else has
-- locked is left out, so that it does not hold up the others of the batch; its run is settled later.
-- Claim: ready jobs of one queue become running under a new epoch and lease.
-- $1 job ids, $2 epochs, $3 kinds, $4 delays in seconds, $5 errors, $6 results, $7 progress, $8 start-over flags,
-- $9 data for the audit log, $10 actor, and of those that succeeded with nothing to say: $11 job ids, $12 epochs
-- $13 queue, $14 tasks this process knows, $15 how many at most, $16 worker, $17 lease in seconds, $18 whether the process is
-- idle, $19 seconds after which a job that was lost before may run beside others; $20 priority, $21 due time, $22 seq after
-- which the claim begins: rows that an old snapshot keeps alive are walked over by every claim that begins before them
-- The rows of a batch are locked one by one, by the primary key and by no partial index (case), and then written where
-- they lie: a join by key would be planned by statistics of yesterday.
-- A claim merges the ready jobs of each task it knows, in order, and takes what nobody has locked: jobs of tasks that
-- nobody here knows are not read. The planner must walk the index also when its statistics know of no ready jobs: it is
-- told that the filter holds for nearly every row (case) and that few of them are wanted (subqueries as limits), or it
-- sorts all that are ready. The part between "each task" and "next task" is repeated for every known task.
-- What stands between "only to settle" and "also to claim" is left out where nothing has ended: to set it up for no rows takes
-- the server an eighth of the time that a claim of one job takes.
-- The answer holds what was settled (a status, no task), then what was claimed (a task, no status), in order, then how far
-- the claim came and the seconds until it had found its first job (no job).
with
-- only to settle
ended as (
  select *
    from unnest($1::uuid[], $2::integer[], $3::text[], $4::float8[], $5::jsonb[], $6::jsonb[], $7::jsonb[], $8::boolean[], $9::jsonb[])
      as e(job_id, epoch, kind, delay_s, error, result, progress, start_over, data)
   union all
  select e.job_id, e.epoch, 'succeeded', 0, null, null, null, false, null from unnest($11::uuid[], $12::integer[]) as e(job_id, epoch)
), locked as materialized (
  select e.*, j.tid, j.attempt, j.max_attempts, j.checkpoint_epoch, j.cancel_requested
    from (select * from ended order by job_id) e
   cross join lateral (
     select c.ctid as tid, c.attempt, c.max_attempts, c.checkpoint_epoch, c.cancel_requested
       from {schema}.dl_jobs c
      where c.job_id = e.job_id and case when c.epoch = e.epoch and c.status = 'running' then 1 else 0 end <> 0
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
         ready = d.new_status = 'queued' and d.delay_s <= 0 and j.lock_key is null and j.partition_key is null and j.hold_reason is null,
         finished_at = case when d.new_status = 'queued' then null else clock_timestamp() end,
         blocks_partition = d.new_status = 'failed' and j.partition_key is not null
                            and exists (select from {schema}.dl_tasks t where t.task = j.task and t.on_partition_failure = 'block'),
         error = case when d.new_status = 'succeeded' then null else coalesce(d.error, j.error) end,
         result = d.result, progress = coalesce(d.progress, j.progress)
    from decided d
   where j.ctid = d.tid and j.epoch = d.epoch and j.status = 'running'
  returning j.job_id, j.epoch, j.status, j.attempt, j.queue, j.lock_key, j.partition_key, j.ready, j.available_at, d.kind, d.error, d.data,
            j.progress->'done' as done
), settled_log as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select s.job_id, case when s.status <> 'queued' then s.status when s.kind = 'retry' then 'retry_scheduled' else s.kind end,
         s.status, s.epoch, s.attempt, $10,
         case when s.error is null and s.done is null and s.data is null and s.status <> 'queued' then '{}'
              else coalesce(s.data, '{}') || jsonb_strip_nulls(jsonb_build_object(
                'error', s.error, 'done', s.done, 'available_at', case when s.status = 'queued' then s.available_at end)) end
    from settled s
),
-- also to claim
begun as materialized (
  select clock_timestamp() as at
), visible as materialized (
  select c.tid, c.losses, f.priority, f.available_at, f.seq, clock_timestamp() as found_at
    from begun b
   cross join lateral (
          select o.*
            from (-- each task
                  (select c.ctid as tid, c.priority, c.available_at, c.seq from {schema}.dl_jobs c
                    where c.ready and c.queue = $13 and c.task = ($14::text[])[1]
                      and (c.priority, c.available_at, c.seq) > ($20, $21, $22)
                      and case when c.losses = 0 or $18 or c.available_at < clock_timestamp() - make_interval(secs => $19)
                               then 1 else 0 end <> 0
                    order by c.priority, c.available_at, c.seq
                    limit (select 1000000000))
                  -- next task
                 ) o
           where b.at is not null
             and not exists (select from {schema}.dl_queues q where q.queue = $13 and q.paused_at is not null)
           order by o.priority, o.available_at, o.seq
           limit (select 1000000000)) f
   cross join lateral (
          select i.ctid as tid, i.losses from {schema}.dl_jobs i
           where i.ctid = f.tid and i.ready
             for no key update skip locked) c
   limit (select $15::bigint)
), foremost as materialized (
  select v.tid, v.losses from visible v order by v.priority, v.available_at, v.seq limit 1
), picked as materialized (
  select v.tid from visible v
   where not $18 or case when (select f.losses from foremost f) > 0 then v.tid = (select f.tid from foremost f) else v.losses = 0 end
), claimed as (
  update {schema}.dl_jobs j
     set status = 'running', ready = false, attempt = j.attempt + 1, epoch = j.epoch + 1, worker_id = $16,
         started_at = t.now, heartbeat_at = t.now, lease_expires_at = t.now + make_interval(secs => $17)
    from (select clock_timestamp() as now) t
   where j.ctid = any (array(select p.tid from picked p))
  returning j.job_id, j.epoch, j.task, j.args, j.attempt, j.losses, j.checkpoint, j.progress, j.timeout_s, j.stall_timeout_s,
            j.priority, j.available_at, j.seq, j.started_at
), claimed_log as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select c.job_id, 'claimed', 'running', c.epoch, c.attempt, $10,
         case when c.checkpoint is null and c.progress is null then '{}'
              else jsonb_strip_nulls(jsonb_build_object('checkpoint', c.checkpoint, 'done', c.progress->'done')) end
    from claimed c
)
select u.job_id, u.epoch, u.status, u.attempt, u.queue, u.lock_key, u.partition_key, u.ready, u.task, u.args, u.losses,
       u.checkpoint, u.progress, u.timeout_s, u.stall_timeout_s, u.wait_s, u.priority, u.available_at, u.seq, u.walked_s
  from (
select null::uuid as job_id, null::integer as epoch, null::text as status, null::smallint as attempt, null::text as queue,
       null::text as lock_key, null::text as partition_key, null::boolean as ready,
       null::text as task, null::jsonb as args, null::smallint as losses, null::jsonb as checkpoint, null::jsonb as progress,
       null::float8 as timeout_s, null::float8 as stall_timeout_s, null::float8 as wait_s,
       null::smallint as priority, null::timestamptz as available_at, null::bigint as seq, null::float8 as walked_s,
       0 as part, null::smallint as by_priority, null::timestamptz as by_available_at, null::bigint as by_seq
 where false
-- only to settle
union all
select s.job_id, s.epoch, s.status, s.attempt, s.queue, s.lock_key, s.partition_key, s.ready,
       null, null, null, null, null, null, null, null, null, null, null, null, 0, null, null, null
  from settled s
-- also to claim
union all
select c.job_id, c.epoch, null, c.attempt, null, null, null, null,
       c.task, c.args, c.losses, c.checkpoint, c.progress, c.timeout_s, c.stall_timeout_s,
       date_part('epoch', c.started_at - c.available_at), null, null, null, null, 1, c.priority, c.available_at, c.seq
  from claimed c
union all
select null, null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
       l.priority, l.available_at, l.seq,
       date_part('epoch', coalesce((select min(v.found_at) from visible v), clock_timestamp()) - b.at), 2, null, null, null
  from begun b
  left join (select v.* from visible v
              where not $18 or (select count(*) from picked) = (select count(*) from visible)
              order by v.priority desc, v.available_at desc, v.seq desc
              limit 1) l on true
 where $15 > 0
       ) u
 order by u.part, u.by_priority, u.by_available_at, u.by_seq
