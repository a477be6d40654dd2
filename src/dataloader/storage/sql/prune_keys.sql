-- Remove a batch of idempotency keys older than seven days whose jobs have been pruned.
-- $1 most rows
with old as materialized (
  select k.scope, k.key
    from {schema}.dl_idempotency k
   where k.final_status is not null and k.created_at < clock_timestamp() - interval '7 days'
   order by k.created_at
   limit $1
     for update skip locked
), removed as (
  delete from {schema}.dl_idempotency k using old o where k.scope = o.scope and k.key = o.key returning k.key
)
select count(*) as removed from removed
