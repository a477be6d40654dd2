-- Make due jobs without keys ready: delayed ones, retries, and rows that plain SQL inserted.
-- $1 most rows
with due as materialized (
  select j.job_id
    from {schema}.dl_jobs j
   where j.status = 'queued' and not j.ready and j.hold_reason is null and j.lock_key is null and j.partition_key is null
     and j.available_at <= clock_timestamp()
   order by j.available_at
   limit $1
     for no key update skip locked
), promoted as (
  update {schema}.dl_jobs j
     set ready = true
    from due d
   where j.job_id = d.job_id
  returning j.queue
)
select p.queue, count(*)::integer as offered from promoted p group by p.queue
