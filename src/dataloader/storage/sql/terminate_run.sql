-- End what is left of a run on the server: a frozen or fenced worker's open chunk must not block its successor.
-- $1 application names that chunks of the run carry
select count(*) filter (where pg_terminate_backend(a.pid)) as terminated
  from pg_stat_activity a
 where a.application_name = any ($1::text[]) and a.pid <> pg_backend_pid()
