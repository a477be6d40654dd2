"""What the doctor asks PostgreSQL: reads only, and one notification on a channel of its own."""

from __future__ import annotations

SERVER = """
select
    current_setting('server_version') as version,
    current_setting('server_version_num')::int / 10000 as major,
    current_user as role,
    current_database() as database,
    pg_is_in_recovery() as standby,
    current_setting('default_transaction_read_only')::bool as read_only,
    current_setting('default_transaction_isolation') as isolation,
    current_setting('max_connections')::int as connections,
    (select count(*) from pg_stat_activity where backend_type = 'client backend') as connected
"""

PRIVILEGES_MISSING = """
select format('%s on %s', privilege, relname) as missing
from pg_class c
cross join unnest(array['select', 'insert', 'update', 'delete']) privilege
where relnamespace = to_regnamespace($1)
    and relkind in ('r', 'p')
    and relname like 'dl\\_%'
    and relname <> 'dl_alembic_version'
    and not has_table_privilege(c.oid, privilege)
union all
select format('execute on %s', proname)
from pg_proc p
where pronamespace = to_regnamespace($1)
    and proname like 'dl\\_%'
    and not has_function_privilege(p.oid, 'execute')
order by missing
"""

MAY_CREATE = """
select
    to_regnamespace($1) is not null as exists,
    case
        when to_regnamespace($1) is null then has_database_privilege(current_database(), 'create')
        else has_schema_privilege($1, 'create')
    end as create,
    case when to_regnamespace($1) is null then true else has_schema_privilege($1, 'usage') end as usage,
    has_database_privilege(current_database(), 'temporary') as temporary
"""

CLOCK = "select clock_timestamp()"
BACKEND = "select pg_backend_pid()"
PREPARED = "select $1::int"
NOTIFY = "select pg_notify($1, $2)"
