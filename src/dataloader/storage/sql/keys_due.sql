-- Keys of jobs that became due lately, for promotion; what is older than the window is found by the key scan.
-- $1 window in seconds, $2 most keys
select distinct d.lock_key, d.partition_key
  from (select j.lock_key, j.partition_key
          from {schema}.dl_jobs j
         where j.status = 'queued' and not j.ready and j.hold_reason is null and (j.lock_key is not null or j.partition_key is not null)
           and j.available_at > clock_timestamp() - make_interval(secs => $1) and j.available_at <= clock_timestamp()
         order by j.available_at desc
         limit $2) d
