-- The next distinct partition keys with jobs in line, one index descent each however many jobs wait in a partition.
-- $1 key to start after, $2 most keys
with recursive step as (
  (select j.partition_key, 1 as n from {schema}.dl_jobs j
    where j.partition_key is not null and (j.status = 'queued' or j.blocks_partition) and j.partition_key > $1
    order by j.partition_key limit 1)
  union all
  select (select j.partition_key from {schema}.dl_jobs j
           where j.partition_key is not null and (j.status = 'queued' or j.blocks_partition) and j.partition_key > s.partition_key
           order by j.partition_key limit 1), s.n + 1
    from step s
   where s.partition_key is not null and s.n < $2
)
select s.partition_key as key from step s where s.partition_key is not null
