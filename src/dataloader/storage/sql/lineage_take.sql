-- Take or keep the delivery of lineage, and move the mark below which every event is committed or gone.
-- $1 process, $2 seconds until another may take it.
-- Numbers are given before commits: a number is passed on only when all transactions of its time have ended.
insert into {schema}.dl_lineage as l (name, held_by, held_until, sent_id, safe_id, mark_id, mark_xid)
select 'openlineage', $1, clock_timestamp() + make_interval(secs => $2), m.id, m.id, m.id, m.xid
  from (select coalesce(max(e.event_id), 0) as id, pg_snapshot_xmax(pg_current_snapshot())::text::bigint as xid
          from {schema}.dl_job_events e) m
on conflict (name) do update
   set held_by = excluded.held_by, held_until = excluded.held_until,
       safe_id = case when l.mark_at < clock_timestamp() - interval '1 second'
                       and l.mark_xid <= pg_snapshot_xmin(pg_current_snapshot())::text::bigint then l.mark_id else l.safe_id end,
       mark_id = case when l.mark_id = l.safe_id then excluded.mark_id else l.mark_id end,
       mark_xid = case when l.mark_id = l.safe_id then excluded.mark_xid else l.mark_xid end,
       mark_at = case when l.mark_id = l.safe_id then clock_timestamp() else l.mark_at end
 where l.held_by = excluded.held_by or l.held_until < clock_timestamp()
returning l.sent_id, l.safe_id
