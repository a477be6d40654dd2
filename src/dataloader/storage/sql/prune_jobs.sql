-- Remove a batch of finished jobs, their events and chunks; an idempotency key that outlives its job remembers how it ended.
-- $1 retention in days, $2 most rows; read by a subquery, so that the planner never sorts what the index has in order
with old as materialized (
  select j.job_id, j.status
    from {schema}.dl_jobs j
   where j.finished_at < statement_timestamp() - make_interval(secs => $1::float8 * 86400) and not j.blocks_partition
   order by j.finished_at
   limit (select $2::bigint)
     for update skip locked
), remembered as (
  update {schema}.dl_idempotency k set final_status = o.status
    from old o
   where k.job_id = o.job_id and k.job_id = any (array(select m.job_id from old m))
), events as (
  delete from {schema}.dl_job_events e where e.job_id = any (array(select o.job_id from old o))
), chunks as (
  delete from {schema}.dl_chunks c where c.job_id = any (array(select o.job_id from old o))
), removed as (
  delete from {schema}.dl_jobs j where j.job_id = any (array(select o.job_id from old o)) returning j.job_id
)
select count(*) as removed from removed
