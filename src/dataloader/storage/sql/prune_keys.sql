-- Remove a batch of idempotency keys older than seven days whose jobs have been pruned.
-- $1 most rows; read by a subquery, so that the planner never sorts what the index has in order
with old as materialized (
  select k.job_id
    from {schema}.dl_idempotency k
   where k.final_status is not null and k.created_at < statement_timestamp() - interval '7 days'
   order by k.created_at
   limit (select $1::bigint)
     for update skip locked
), removed as (
  delete from {schema}.dl_idempotency k
   where k.job_id = any (array(select o.job_id from old o)) and k.final_status is not null
  returning k.key
)
select count(*) as removed from removed
