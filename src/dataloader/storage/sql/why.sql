-- Everything that can keep a job waiting, in one look.
-- $1 job id, $2 most jobs counted
select m.status, m.ready, m.queue, m.task, m.hold_reason, m.lock_key, m.partition_key, m.losses, m.available_at,
       greatest(extract(epoch from m.available_at - clock_timestamp()), 0)::float8 as due_in_s,
       q.paused_at, q.paused_by,
       holder.job_id as lock_job_id, holder.status as lock_job_status,
       head.job_id as head_job_id, head.status as head_job_status,
       live.processes, live.slots,
       (select count(*)::integer
          from (select from {schema}.dl_jobs r where r.status = 'running' and r.worker_id is not null and r.queue = m.queue limit $2) c) as running,
       (with recursive stocked(task) as (
          (select a.task from {schema}.dl_jobs a where a.ready and a.queue = m.queue order by a.task limit 1)
          union all
          select n.task
            from stocked s,
         lateral (select a.task from {schema}.dl_jobs a
                   where a.ready and a.queue = m.queue and a.task > s.task
                   order by a.task
                   limit 1) n)
        select count(*)::integer
          from (select
                  from stocked s,
               lateral (select from {schema}.dl_jobs a
                         where a.ready and a.queue = m.queue and a.task = s.task
                           and (a.priority, a.available_at, a.seq) < (m.priority, m.available_at, m.seq)
                         order by a.priority, a.available_at, a.seq
                         limit $2) a
                 limit $2) c) as ahead
  from {schema}.dl_jobs m
  left join {schema}.dl_queues q on q.queue = m.queue
  left join lateral (
    select t.job_id, t.status from {schema}.dl_jobs t
     where t.lock_key = m.lock_key and (t.ready or t.status = 'running') and t.job_id <> m.job_id
     limit 1) holder on true
  left join lateral (
    select h.job_id, h.status
      from ((select t.job_id, t.status, 0 as place from {schema}.dl_jobs t
              where t.partition_key = m.partition_key and (t.ready or t.status = 'running') and t.job_id <> m.job_id
              limit 1)
            union all
            (select t.job_id, t.status, 1 from {schema}.dl_jobs t
              where t.partition_key = m.partition_key and (t.status = 'queued' or t.blocks_partition) and t.seq < m.seq
              order by t.seq
              limit 1)) h
     order by h.place
     limit 1) head on true
 cross join lateral (
    select count(*)::integer as processes, coalesce(sum((w.queues->>m.queue)::integer), 0)::integer as slots
      from {schema}.dl_workers w
     where w.expires_at > clock_timestamp() and not w.stopping and w.takes->m.queue ? m.task) live
 where m.job_id = $1
