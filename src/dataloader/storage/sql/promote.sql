-- Offer what is due behind these keys; a short transaction of its own.
-- $1 lock keys, $2 partition keys
select p.queue, p.offered from {schema}.dl_promote($1::text[], $2::text[]) p
