-- The fence, and the last statement of a chunk's transaction: save the checkpoint, extend the lease, answer "cancel?".
-- No row: the lease is gone and the transaction must be rolled back. Only a run's first checkpoint is an event; a line
-- of the ledger is written for every chunk that has one.
-- $1 job id, $2 epoch, $3 checkpoint or null, $4 progress or null, $5 lease in seconds, $6 line of the ledger or null
with before as materialized (
  select j.job_id, j.checkpoint_epoch from {schema}.dl_jobs j
   where j.job_id = $1 and j.epoch = $2 and j.status = 'running'
     for no key update
), saved as (
  update {schema}.dl_jobs j
     set checkpoint = coalesce($3::jsonb, j.checkpoint), progress = coalesce($4::jsonb, j.progress),
         checkpoint_epoch = case when $3::jsonb is null then j.checkpoint_epoch else j.epoch end,
         heartbeat_at = clock_timestamp(), lease_expires_at = clock_timestamp() + make_interval(secs => $5)
    from before b
   where j.job_id = b.job_id
  returning j.job_id, j.epoch, j.attempt, j.worker_id, j.cancel_requested, b.checkpoint_epoch as epoch_before
), logged as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select s.job_id, 'checkpoint', 'running', s.epoch, s.attempt, 'worker:' || s.worker_id, jsonb_build_object('checkpoint', $3::jsonb)
    from saved s
   where $3::jsonb is not null and s.epoch_before is distinct from s.epoch
), recorded as (
  insert into {schema}.dl_chunks (job_id, epoch, attempt, source, targets, range, rows_in, rows_out, rejected, bytes, ms)
  select s.job_id, s.epoch, s.attempt, l.source, coalesce(l.targets, '{}'), l.range, l.rows_in, l.rows_out, l.rejected, l.bytes, l.ms
    from saved s, jsonb_to_record($6::jsonb) as l (source text, targets text[], range jsonb, rows_in bigint, rows_out bigint,
                                                   rejected bigint, bytes bigint, ms float8)
   where $6::jsonb is not null
)
select s.cancel_requested from saved s
