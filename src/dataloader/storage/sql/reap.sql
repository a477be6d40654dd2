-- Take back jobs whose lease has expired: decided and written on the locked row. The attempt is given back, a loss is
-- charged (from one again when the run advanced the checkpoint), and the third loss in a row ends the job as lost.
-- $1 most rows, $2 grace in seconds after a start of the server, in which live workers renew first, $3 actor,
-- $4 the server's clock before this statement was sent: it may have lain in a frozen server, and live workers with it
with expired as materialized (
  select j.job_id, j.worker_id, j.lease_expires_at, j.losses, j.loss_epoch, j.checkpoint_epoch, j.max_losses, j.cancel_requested
    from {schema}.dl_jobs j
   where j.status = 'running' and j.worker_id is not null and j.lease_expires_at < $4
     and pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => $2)
   order by j.job_id
   limit $1
     for no key update skip locked
), decided as (
  select e.job_id, e.worker_id, e.lease_expires_at, c.losses as new_losses,
         case when e.cancel_requested then 'canceled' when c.losses >= e.max_losses then 'lost' else 'queued' end as new_status
    from expired e,
 lateral (select case when e.checkpoint_epoch > coalesce(e.loss_epoch, 0) then 1 else e.losses + 1 end as losses) c
), reaped as (
  update {schema}.dl_jobs j
     set status = d.new_status, losses = case when d.new_status = 'canceled' then j.losses else d.new_losses end, loss_epoch = j.epoch, attempt = greatest(j.attempt - 1, 0), lease_expires_at = null,
         available_at = case when d.new_status = 'queued' then clock_timestamp() else j.available_at end,
         ready = d.new_status = 'queued' and j.lock_key is null and j.partition_key is null and j.hold_reason is null,
         finished_at = case when d.new_status = 'queued' then null else clock_timestamp() end,
         blocks_partition = d.new_status = 'lost' and j.partition_key is not null
                            and exists (select from {schema}.dl_tasks t where t.task = j.task and t.on_partition_failure = 'block'),
         error = case when d.new_status = 'canceled'
                      then jsonb_build_object('type', 'LeaseExpired', 'message', 'the run was asked to stop and its lease expired before it did')
                      else jsonb_build_object('type', 'LeaseExpired', 'message',
                             'the worker stopped renewing its lease; it was killed, frozen or cut off from the database') end
    from decided d
   where j.job_id = d.job_id and j.status = 'running'
  returning j.job_id, j.epoch, j.status, j.attempt, j.losses, j.queue, j.task, j.lock_key, j.partition_key, j.ready,
            d.worker_id, d.lease_expires_at, j.progress->'done' as done
), logged as (
  insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
  select r.job_id, case when r.status = 'queued' then 'lease_expired' else r.status end, r.status, r.epoch, r.attempt, $3,
         jsonb_strip_nulls(jsonb_build_object(
           'losses', r.losses, 'worker_id', r.worker_id, 'lease_expired_at', r.lease_expires_at, 'done', r.done))
    from reaped r
)
select r.job_id, r.epoch, r.status, r.attempt, r.losses, r.queue, r.task, r.lock_key, r.partition_key, r.ready from reaped r
