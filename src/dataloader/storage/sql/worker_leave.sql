-- Take a process that ends in order off the list.
-- $1 worker
delete from {schema}.dl_workers w where w.worker_id = $1
