-- Write a task's small state inside a chunk's transaction.
-- $1 task, $2 key, $3 value, $4 job id
insert into {schema}.dl_task_state as s (task, key, value, job_id)
values ($1, $2, $3, $4)
    on conflict (task, key) do update set value = excluded.value, job_id = excluded.job_id, updated_at = clock_timestamp()
