"""The database that an unload reads: one of DL_CONNECTIONS, or the service's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import quote, urlencode

from dataloader.config import Settings
from dataloader.connectors.identifiers import parse_table
from dataloader.connectors.sql import SqlSource, named_dsn, open_source
from dataloader.storage.db import connect_options, direct_dsn, limits, own_database
from dataloader.workers.pipelines.unload_table.args import UnloadTableArgs

_OWN = "dataloader"
_NAMED = "set application_name = 'dataloader unload.table'"


@asynccontextmanager
async def open_unloaded(args: UnloadTableArgs, settings: Settings) -> AsyncIterator[SqlSource]:
    """Connect, read-only, and describe what is to be read.

    Raises:
        PermanentError: There is no such connection, or the database refuses us or the query.
        SourceError: It cannot be reached now.
    """
    if args.connection is not None:
        opened = open_source(
            named_dsn(settings, args.connection), connection_name=args.connection, query=args.query, table=args.table
        )
    else:
        table = None if args.table is None else parse_table(args.table, schema=settings.pg_schema).sql
        opened = open_source(
            own_dsn(settings),
            connection_name=_OWN,
            query=args.query,
            table=table,
            database=own_database(settings),
        )
    async with opened as source:
        await source.connection.execute(_NAMED)
        if args.connection is None:
            names = ("idle_in_transaction_session_timeout", *limits(source.connection))
            await source.connection.execute("; ".join(f"set {name} = 0" for name in names))
        yield source


def own_dsn(settings: Settings) -> str:
    """Return the address of the service's database: the one for LISTEN if it differs, since it goes past poolers."""
    options = connect_options(settings, dsn=direct_dsn(settings))
    if "dsn" in options:
        return str(options["dsn"])
    database = quote(str(options.pop("database")), safe="")
    return (
        f"postgresql:///{database}?{urlencode({name: value for name, value in options.items() if value is not None})}"
    )
