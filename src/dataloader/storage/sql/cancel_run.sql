-- Cancel the statement that a run executes at this moment.
-- $1 application names that chunks of the run carry
select count(*) filter (where pg_cancel_backend(a.pid)) as canceled
  from pg_stat_activity a
 where a.datname = current_database() and a.application_name = any ($1::text[]) and a.pid <> pg_backend_pid()
