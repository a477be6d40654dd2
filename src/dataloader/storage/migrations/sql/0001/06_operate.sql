create function {schema}.dl_cancel(p_job_id uuid, p_actor text default session_user, p_notify boolean default true)
returns table (before text, queue text, lock_key text, partition_key text)
language plpgsql volatile
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
  v_job {schema}.dl_jobs;
  v_kind text;
begin
  -- Two statements: a retry that commits between a snapshot and its lock would hide the row from a single one.
  select * into v_job from {schema}.dl_jobs j where j.job_id = p_job_id for no key update;
  if not found then
    return;
  end if;

  if v_job.status = 'queued' then
    v_kind := 'canceled';
    update {schema}.dl_jobs j
       set status = 'canceled', cancel_requested = true, ready = false, finished_at = clock_timestamp()
     where j.job_id = p_job_id;
  elsif v_job.status = 'running' and not v_job.cancel_requested then
    v_kind := 'cancel_requested';
    update {schema}.dl_jobs j set cancel_requested = true where j.job_id = p_job_id;
  elsif v_job.blocks_partition then
    v_kind := 'partition_released';
    update {schema}.dl_jobs j set blocks_partition = false where j.job_id = p_job_id;
  end if;

  if v_kind is not null then
    insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor)
    select j.job_id, v_kind, j.status, j.epoch, j.attempt, p_actor from {schema}.dl_jobs j where j.job_id = p_job_id;
    if p_notify then
      perform pg_notify('dl_{schema_name}', case v_kind when 'cancel_requested' then 'cancel:' || p_job_id else 'promote' end);
    end if;
  end if;
  return query select case when v_kind = 'partition_released' then v_kind else v_job.status end, v_job.queue::text, v_job.lock_key::text, v_job.partition_key::text;
end $$
--;
comment on function {schema}.dl_cancel(uuid, text, boolean) is
'Cancel a queued job, or ask a running one to stop; answers the status before, no row for an unknown job'
--;
create function {schema}.dl_retry(
  p_job_id uuid,
  p_from_start boolean default false,
  p_actor text default session_user,
  p_notify boolean default true
) returns table (before text, queue text, lock_key text, partition_key text)
language plpgsql volatile
set lock_timeout = '3s'
as $$
#variable_conflict use_column
declare
  v_job {schema}.dl_jobs;
begin
  select * into v_job from {schema}.dl_jobs j where j.job_id = p_job_id for no key update;
  if not found then
    return;
  end if;

  if v_job.status in ('failed', 'canceled', 'lost') then
    update {schema}.dl_jobs j
       set status = 'queued', attempt = 0, losses = 0, loss_epoch = null, handovers = 0, cancel_requested = false,
           blocks_partition = false, available_at = clock_timestamp(), finished_at = null, worker_id = null, result = null,
           ready = j.lock_key is null and j.partition_key is null and j.hold_reason is null,
           checkpoint = case when p_from_start then null else j.checkpoint end,
           checkpoint_epoch = case when p_from_start then null else j.checkpoint_epoch end,
           progress = case when p_from_start then null else j.progress end
     where j.job_id = p_job_id;
    insert into {schema}.dl_job_events (job_id, kind, status, epoch, attempt, actor, data)
    values (p_job_id, 'retried', 'queued', v_job.epoch, 0, p_actor, jsonb_build_object('from_start', p_from_start, 'before', v_job.status));
    if p_notify then
      perform pg_notify('dl_{schema_name}', case when coalesce(v_job.lock_key, v_job.partition_key) is null then 'queue:' || v_job.queue else 'promote' end);
    end if;
  end if;
  return query select v_job.status, v_job.queue::text, v_job.lock_key::text, v_job.partition_key::text;
end $$
--;
comment on function {schema}.dl_retry(uuid, boolean, text, boolean) is
'Queue a failed, canceled or lost job again; answers the status before, no row for an unknown job'
