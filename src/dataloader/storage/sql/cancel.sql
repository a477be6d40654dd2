-- Cancel a queued job, or ask a running one to stop.
-- $1 job id, $2 actor
select c.before, c.queue, c.lock_key, c.partition_key from {schema}.dl_cancel($1, $2, false) c
