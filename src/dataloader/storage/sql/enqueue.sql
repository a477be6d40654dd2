-- Enqueue a batch in the caller's transaction; one answer per item, in order.
-- $1 jobs as a JSON array, sent as text because the caller's connection may have a JSON codec of its own, $2 idempotency scope, $3 actor, $4 whether to notify inside the transaction, $5 how long to wait for a lock
select e.job_id, e.status, e.created, e.conflict, e.ready from {schema}.dl_enqueue_many($1::text::jsonb, $2, $3, $4, $5) e
