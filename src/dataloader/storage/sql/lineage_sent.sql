-- Note how far lineage has been delivered, if its delivery is still ours.
-- $1 process, $2 number of the last event told.
update {schema}.dl_lineage l set sent_id = $2 where l.name = 'openlineage' and l.held_by = $1
