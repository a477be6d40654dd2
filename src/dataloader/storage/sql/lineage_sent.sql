-- Note how far lineage has been delivered, and keep its delivery for longer; no row: it is no longer ours.
-- $1 process, $2 number of the last event told, $3 seconds until another may take it.
update {schema}.dl_lineage l set sent_id = $2, held_until = clock_timestamp() + make_interval(secs => $3)
 where l.name = 'openlineage' and l.held_by = $1
returning l.sent_id
