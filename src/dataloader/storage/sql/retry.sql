-- Queue a finished job again.
-- $1 job id, $2 whether to drop the checkpoint, $3 actor
select r.before, r.queue, r.lock_key, r.partition_key from {schema}.dl_retry($1, $2, $3, false) r
