-- The only clock for leases.
select clock_timestamp() as now
