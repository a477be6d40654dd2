"""`dataloader migrate`: brings the schema to this version, or prints it."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Option, Typer

from dataloader.cli.options import Embedded, attached, command, configure
from dataloader.cli.roles import require_database
from dataloader.cli.screen import out
from dataloader.config import load_settings

Sql = Annotated[bool, Option("--sql", help="Print the whole schema as SQL and change nothing.")]
Schema = Annotated[
    str | None, Option("--schema", help="Schema of the tables instead of PG_SCHEMA.", show_default=False)
]


def register_migrate(app: Typer) -> None:
    """Enter the command."""
    examples = (
        "dataloader migrate",
        "dataloader migrate --embedded",
        "dataloader migrate --sql --schema etl > ddl.sql",
    )
    command(app, "migrate", examples=examples)(migrate_schema)


async def migrate_schema(*, sql: Sql = False, schema: Schema = None, embedded: Embedded = False) -> None:
    """Create or upgrade the schema in the database; any number of processes may try at once."""
    from dataloader.cli.readiness import granted  # noqa: PLC0415 - help and clients must not wait for it
    from dataloader.storage.migrate import head_version, migrate, render_ddl  # noqa: PLC0415 - help and clients must not wait for it

    overrides = {} if schema is None else {"pg_schema": schema}
    if sql:
        sys.stdout.write(render_ddl(load_settings(**overrides).pg_schema))
        return
    settings = configure(embedded=embedded, **overrides)
    require_database(settings)
    async with attached(settings, embedded=embedded):
        with granted():
            await migrate(settings)
    out().print(f"Schema {settings.pg_schema} is at version {head_version()}.")
