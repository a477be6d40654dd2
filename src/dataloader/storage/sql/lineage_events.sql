-- Read the events to tell of, in order: a claim, a checkpoint, and whatever ended a run, which has its run's ledger by it.
-- $1 number of the last event told, $2 number of the last one to tell, $3 most events.
select e.event_id, e.job_id, e.at, e.kind, e.status, e.epoch, e.attempt, e.data, j.task, j.data_interval_start, j.data_interval_end,
       before.status = 'running' as was_running, ledger.lines
  from {schema}.dl_job_events e
  join {schema}.dl_jobs j on j.job_id = e.job_id
  left join lateral (select p.status from {schema}.dl_job_events p
                      where p.job_id = e.job_id and p.event_id < e.event_id
                      order by p.event_id desc limit 1) before on true
  left join lateral (select jsonb_agg(to_jsonb(c) order by c.first) as lines
                       from (select d.source, d.targets, min(d.chunk_id) as first, sum(d.rows_in) as rows_in,
                                    sum(d.rows_out) as rows_out, sum(d.bytes) as bytes
                               from {schema}.dl_chunks d
                              where e.status <> 'running' and d.job_id = e.job_id and d.epoch = e.epoch
                              group by d.source, d.targets) c) ledger on true
 where e.event_id > $1 and e.event_id <= $2
 order by e.event_id
 limit $3
