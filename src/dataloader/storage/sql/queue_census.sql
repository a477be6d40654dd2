-- What every queue holds and who serves it; every count ends at a limit, so that the look stays cheap.
-- $1 most jobs counted per queue and state
with recursive stocked(queue) as (
  (select j.queue from {schema}.dl_jobs j where j.ready order by j.queue limit 1)
  union all
  select n.queue
    from stocked s,
 lateral (select j.queue from {schema}.dl_jobs j where j.ready and j.queue > s.queue order by j.queue limit 1) n
), waiting as materialized (
  select w.queue, count(*)::integer as jobs, min(w.available_at) filter (where w.available_at <= clock_timestamp()) as oldest
    from ((select j.queue, j.available_at from {schema}.dl_jobs j
            where j.status = 'queued' and not j.ready and j.hold_reason is null
              and j.lock_key is null and j.partition_key is null
            order by j.available_at
            limit $1)
          union all
          (select j.queue, j.available_at from {schema}.dl_jobs j
            where j.status = 'queued' and not j.ready and j.hold_reason is null
              and (j.lock_key is not null or j.partition_key is not null)
            order by j.available_at
            limit $1)) w
   group by w.queue
), running as materialized (
  select j.queue, count(*)::integer as jobs, count(*) filter (where j.lease_expires_at < clock_timestamp())::integer as expired
    from {schema}.dl_jobs j
   where j.status = 'running' and j.worker_id is not null
   group by j.queue
), served as materialized (
  select e.key as queue, count(*)::integer as workers, sum(e.value::integer)::integer as slots
    from {schema}.dl_workers w, jsonb_each_text(w.queues) e
   where w.expires_at > clock_timestamp() and not w.stopping
   group by e.key
), named as (
  select s.queue from stocked s
  union
  select w.queue from waiting w
  union
  select r.queue from running r
  union
  select v.queue from served v
  union
  select q.queue from {schema}.dl_queues q
  union
  select t.queue from {schema}.dl_tasks t where t.queue is not null
)
select n.queue, q.paused_at, q.paused_by, ready.jobs as ready, coalesce(w.jobs, 0) as waiting, coalesce(r.jobs, 0) as running,
       coalesce(r.expired, 0) as expired, coalesce(v.workers, 0) as workers, coalesce(v.slots, 0) as slots,
       extract(epoch from clock_timestamp() - least(ready.oldest, w.oldest))::float8 as oldest_due_s
  from named n
  left join {schema}.dl_queues q on q.queue = n.queue
  left join waiting w on w.queue = n.queue
  left join running r on r.queue = n.queue
  left join served v on v.queue = n.queue
 cross join lateral (
    select count(*)::integer as jobs, min(c.available_at) as oldest
      from (select j.available_at from {schema}.dl_jobs j
             where j.ready and j.queue = n.queue
             order by j.task, j.priority, j.available_at, j.seq
             limit $1) c) ready
 order by n.queue
