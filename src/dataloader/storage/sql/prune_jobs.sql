-- Remove a batch of finished jobs and their events; an idempotency key that outlives its job remembers how it ended.
-- $1 retention in days, $2 most rows
with old as materialized (
  select j.job_id, j.status
    from {schema}.dl_jobs j
   where j.finished_at < clock_timestamp() - make_interval(secs => $1::float8 * 86400) and not j.blocks_partition
   order by j.finished_at
   limit $2
     for update skip locked
), remembered as (
  update {schema}.dl_idempotency k set final_status = o.status from old o where k.job_id = o.job_id
), events as (
  delete from {schema}.dl_job_events e using old o where e.job_id = o.job_id
), removed as (
  delete from {schema}.dl_jobs j using old o where j.job_id = o.job_id returning j.job_id
)
select count(*) as removed from removed
