-- Read the events to tell of, in order: a claim, a checkpoint, and whatever ended a run.
-- $1 number of the last event told, $2 number of the last one to tell, $3 most events.
select e.event_id, e.job_id, e.at, e.kind, e.status, e.epoch, e.attempt, e.data, j.task, j.data_interval_start, j.data_interval_end,
       case when not j.args ? 'target' then coalesce(j.args->>'table', t.args_schema->'properties'->'table'->>'default') end as into_table,
       j.args->>'target' as into_folder,
       before.status = 'running' as was_running, ledger.lines
  from {schema}.dl_job_events e
  join {schema}.dl_jobs j on j.job_id = e.job_id
  left join {schema}.dl_tasks t on t.task = j.task
  left join lateral (select p.status from {schema}.dl_job_events p
                      where p.job_id = e.job_id and p.event_id < e.event_id
                      order by p.event_id desc limit 1) before on true
  left join lateral (select jsonb_agg(jsonb_build_object('source', c.source, 'rows_in', c.rows_in, 'rows_out', c.rows_out, 'bytes', c.bytes)) as lines
                       from (select d.source, sum(d.rows_in) as rows_in, sum(d.rows_out) as rows_out, sum(d.bytes) as bytes
                               from {schema}.dl_chunks d
                              where e.status <> 'running' and d.job_id = e.job_id and d.epoch = e.epoch
                              group by d.source) c) ledger on true
 where e.event_id > $1 and e.event_id <= $2
 order by e.event_id
 limit $3
