"""The hot path's statements: one `.sql` file each, read once, with the schema's name filled in."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files

_EACH_TASK = re.compile("-- (?:each|next) task\n")
_TO_SETTLE = re.compile("-- only to settle\n(.*?)-- also to claim\n", re.DOTALL)
_UNUSED = """unused as (
  select $1::uuid[], $2::integer[], $3::text[], $4::float8[], $5::jsonb[], $6::jsonb[], $7::jsonb[], $8::boolean[],
         $9::jsonb[], $11::uuid[], $12::integer[]
),
"""
"""Takes the place of what settles: says the types of parameters, and is not executed."""


@dataclass(frozen=True, slots=True)
class Queries:
    """Every statement under `sql/`, by the name of its file."""

    cancel: str
    cancel_run: str
    checkpoint: str
    complete: str
    enqueue: str
    exchange: str
    fate: str
    heartbeat: str
    keys_due: str
    lineage_events: str
    lineage_freed: str
    lineage_schema: str
    lineage_sent: str
    lineage_take: str
    load_state: str
    lock_keys_after: str
    partition_keys_after: str
    promote: str
    promote_due: str
    prune_jobs: str
    prune_keys: str
    publish_tasks: str
    queue_census: str
    reap: str
    reconcile: str
    retry: str
    save_state: str
    server_time: str
    terminate_strays: str
    why: str
    worker_beat: str
    worker_leave: str


def in_schema(sql: str, schema: str) -> str:
    """Fill the schema's name into a statement: `{schema}` as an identifier, `{schema_name}` as plain text."""
    return sql.replace("{schema}", f'"{schema}"').replace("{schema_name}", schema)


@lru_cache(maxsize=64)
def load_queries(schema: str) -> Queries:
    """Return the statements for a schema."""
    folder = files("dataloader.storage").joinpath("sql")
    names = [field.name for field in fields(Queries)]
    return Queries(**{name: in_schema(folder.joinpath(f"{name}.sql").read_text("utf-8"), schema) for name in names})


@lru_cache(maxsize=64)
def exchange_of(schema: str, tasks: int, *, settling: bool = True) -> str:
    """Return the exchange for a claim that knows so many tasks, each with a walk of its own along the index.

    Args:
        schema: Schema of the tables.
        tasks: How many.
        settling: Whether something is to be settled; without it the parameters for that stay empty.
    """
    sql = load_queries(schema).exchange
    if not settling:
        sql = _TO_SETTLE.sub("", _TO_SETTLE.sub(lambda _: _UNUSED, sql, count=1))
    before, each, after = _EACH_TASK.split(sql)
    walks = (each.replace("($14::text[])[1]", f"($14::text[])[{n}]") for n in range(1, max(tasks, 1) + 1))
    return f"{before}{'union all'.join(walks)}{after}"


def channel(schema: str) -> str:
    """Return the one notification channel of a schema; payloads are `queue:…`, `cancel:…`, `promote` and `done`."""
    return f"dl_{schema}"


def run_prefix(schema: str) -> str:
    """Return how the names of a schema's runs begin; a copy of the schema beside it knows the same jobs."""
    return f"dl/{sha256(schema.encode()).hexdigest()[:8]}/"


def run_name(job_id: object, epoch: int, *, schema: str) -> str:
    """Return the application name that a run's chunk transactions carry on the server, at most 63 bytes."""
    return f"{run_prefix(schema)}{job_id}/{epoch}"
