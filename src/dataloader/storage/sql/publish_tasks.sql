-- Publish what this process knows of its tasks; unchanged rows are left alone.
-- $1 tasks, $2 queues, $3 docs, $4 argument schemas, $5 options, $6 partition policies
insert into {schema}.dl_tasks as t (task, queue, doc, args_schema, options, on_partition_failure)
select * from unnest($1::text[], $2::text[], $3::text[], $4::jsonb[], $5::jsonb[], $6::text[]) as n order by 1
    on conflict (task) do update
   set queue = excluded.queue, doc = excluded.doc, args_schema = excluded.args_schema, options = excluded.options,
       on_partition_failure = excluded.on_partition_failure, updated_at = clock_timestamp()
 where (t.queue, t.doc, t.args_schema, t.options, t.on_partition_failure)
       is distinct from (excluded.queue, excluded.doc, excluded.args_schema, excluded.options, excluded.on_partition_failure)
