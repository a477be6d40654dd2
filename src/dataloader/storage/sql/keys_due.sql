-- Keys of jobs that became due lately, for promotion; what is older than the window is found by the key scan.
-- $1 window in seconds, $2 most keys; read by a subquery, so that the planner never sorts what the index has in order
select distinct d.lock_key, d.partition_key
  from (select j.lock_key, j.partition_key
          from {schema}.dl_jobs j
         where j.status = 'queued' and not j.ready and j.hold_reason is null and (j.lock_key is not null or j.partition_key is not null)
           and j.available_at > statement_timestamp() - make_interval(secs => $1) and j.available_at <= statement_timestamp()
         order by j.available_at desc
         limit (select $2::bigint)) d
