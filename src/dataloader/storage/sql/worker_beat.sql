-- Say that this process lives and what it can run; rows of processes long gone are removed on the way.
-- $1 worker, $2 host, $3 pid, $4 version, $5 queues, $6 tasks, $7 tasks it takes from each queue, $8 stopping,
-- $9 seconds until it counts as gone
with gone as (
  delete from {schema}.dl_workers w where w.expires_at < clock_timestamp() - interval '1 hour'
)
insert into {schema}.dl_workers as w (worker_id, host, pid, version, queues, tasks, takes, stopping, expires_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9))
    on conflict (worker_id) do update
   set stopping = excluded.stopping, heartbeat_at = clock_timestamp(), expires_at = excluded.expires_at
