-- Read a task's small state.
-- $1 task, $2 key
select s.value from {schema}.dl_task_state s where s.task = $1 and s.key = $2
