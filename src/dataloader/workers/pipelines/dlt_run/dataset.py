"""Which schemas dlt may write into: none of the server's own, and not the one of Dataloader's tables."""

from __future__ import annotations

import re

from dataloader.config import Settings
from dataloader.connectors.identifiers import TableName
from dataloader.connectors.sql import named_dsn, open_source
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs

_STAGING = "_staging"
"""What dlt puts behind the name of the schema in which it makes ready what replaces or merges."""

_RENAMED = re.compile(r"__|_$")
_ANSWER = "select 1 as reached"


async def check_dataset(args: DltRunArgs, settings: Settings) -> None:
    """Refuse a schema whose tables are not the source's: dlt alters, empties and drops what bears a resource's name.

    Raises:
        PermanentError: It is one of the server's, or the one of Dataloader's tables, or dlt would call it otherwise.
        SourceError: The database that is to be asked cannot be reached now.
    """
    if args.dataset.startswith("pg_") or args.dataset == "information_schema":
        raise PermanentError(f"the dataset {args.dataset} is a schema of the server's own; name another one")
    if _RENAMED.search(args.dataset):
        raise PermanentError(
            f"dlt would call the dataset {args.dataset} otherwise; name one with single underscores, none at the end"
        )
    own = settings.pg_schema
    if own in {args.dataset, args.dataset + _STAGING} and await _has_own_tables(args, settings):
        raise PermanentError(
            f"the dataset {args.dataset} would be loaded into {own}, the schema of Dataloader's own tables "
            "(PG_SCHEMA); name another one, dlt creates it"
        )


async def _has_own_tables(args: DltRunArgs, settings: Settings) -> bool:
    """Return whether the schema of the same name in the destination holds Dataloader's tables."""
    if args.connection is None:
        return True
    dsn = named_dsn(settings, args.connection)
    async with open_source(dsn, connection_name=args.connection, query=_ANSWER, table=None) as destination:
        jobs = TableName(settings.pg_schema, "dl_jobs").sql
        return bool(await destination.connection.fetchval("select to_regclass($1) is not null", jobs))
