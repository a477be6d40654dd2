-- Make due jobs without keys ready: delayed ones, retries, and rows that plain SQL inserted.
-- The clock is the statement's own: a volatile one would be compared with every delayed job instead of bounding the scan.
-- $1 most rows; read by a subquery, so that the planner never sorts what the index has in order
with due as materialized (
  select j.job_id
    from {schema}.dl_jobs j
   where j.status = 'queued' and not j.ready and j.hold_reason is null and j.lock_key is null and j.partition_key is null
     and j.available_at <= statement_timestamp()
   order by j.available_at
   limit (select $1::bigint)
     for no key update skip locked
), promoted as (
  update {schema}.dl_jobs j
     set ready = true
   where j.job_id = any (array(select d.job_id from due d))
  returning j.queue
)
select p.queue, count(*)::integer as offered from promoted p group by p.queue
