-- Give the delivery of lineage back, if it is still ours.
-- $1 process.
update {schema}.dl_lineage l set held_until = clock_timestamp() where l.name = 'openlineage' and l.held_by = $1
