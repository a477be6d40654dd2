-- After an unclear answer: how do these jobs stand now?
-- $1 job ids
select j.job_id, j.epoch, j.status from {schema}.dl_jobs j where j.job_id = any ($1::uuid[])
