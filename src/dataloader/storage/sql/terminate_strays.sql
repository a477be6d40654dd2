-- End chunks on the server whose run has lost its lease: what a frozen worker left open must not block its successor, and
-- the row it has locked between seal and commit must not stay out of the reaper's reach. A chunk that began after $1 may
-- belong to a claim that this statement does not see.
-- $1 the server's clock before this statement was sent, $2 how the names of this schema's runs begin
with chunks as materialized (
  select a.pid, case when r.name ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/[0-9]{1,10}$' then left(r.name, 36)::uuid end as job_id,
         substr(r.name, 38) as epoch
    from pg_stat_activity a, substr(a.application_name, length($2) + 1) as r(name)
   where a.datname = current_database() and starts_with(a.application_name, $2) and a.xact_start < $1
), strays as materialized (
  select c.pid
    from chunks c
    join {schema}.dl_jobs j on j.job_id = c.job_id
   where not (j.status = 'running' and j.epoch::text = c.epoch and j.lease_expires_at >= $1)
)
select count(*) filter (where pg_terminate_backend(s.pid)) as terminated from strays s
