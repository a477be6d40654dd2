-- The next distinct lock keys with queued jobs, one index descent each however many jobs wait behind a key.
-- $1 key to start after, $2 most keys
with recursive step as (
  (select j.lock_key, 1 as n from {schema}.dl_jobs j
    where j.status = 'queued' and j.lock_key is not null and j.lock_key > $1 order by j.lock_key limit 1)
  union all
  select (select j.lock_key from {schema}.dl_jobs j
           where j.status = 'queued' and j.lock_key is not null and j.lock_key > s.lock_key order by j.lock_key limit 1), s.n + 1
    from step s
   where s.lock_key is not null and s.n < $2
)
select s.lock_key as key from step s where s.lock_key is not null
