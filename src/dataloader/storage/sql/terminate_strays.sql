-- End chunks on the server whose run has lost its lease: what a frozen worker left open must not block its successor, and
-- the row it has locked between seal and commit must not stay out of the reaper's reach. A chunk that began after $1 may
-- belong to a claim that this statement does not see.
-- $1 the server's clock before this statement was sent
with chunks as materialized (
  select a.pid, split_part(a.application_name, '/', 2)::uuid as job_id, split_part(a.application_name, '/', 3)::integer as epoch
    from pg_stat_activity a
   where case when a.application_name ~ '^dl/[0-9a-f-]{36}/[0-9]{1,9}$' then a.xact_start < $1 else false end
), strays as materialized (
  select c.pid
    from chunks c
    join {schema}.dl_jobs j on j.job_id = c.job_id
   where not (j.status = 'running' and j.epoch = c.epoch and j.lease_expires_at >= $1)
)
select count(*) filter (where pg_terminate_backend(s.pid)) as terminated from strays s
