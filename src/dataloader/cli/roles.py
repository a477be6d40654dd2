"""Commands that run the service: everything, one role, or the embedded whole."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Annotated

from typer import Context, Exit, Option, Typer

from dataloader.cli.banner import banner
from dataloader.cli.ending import run_async, sentences
from dataloader.cli.options import Embedded, command, configure, help_text
from dataloader.cli.screen import out
from dataloader.config import Settings, load_settings
from dataloader.exceptions import InvalidError, SettingsError

NO_DATABASE = (
    "no database is configured: set PG_HOST or DL_DB_DSN to use a PostgreSQL of yours, "
    "or run `dataloader up` to start an embedded one"
)
"""What plain commands say instead of starting a database by accident."""

_HELP = help_text(
    "Run long ETL jobs from a queue in PostgreSQL and account for every one of them.\n\n"
    "Without a command, API and workers run in one process against the configured database (PG_HOST or DL_DB_DSN).",
    (
        "dataloader up        everything, with a PostgreSQL of its own",
        "dataloader trigger noop chunks=20 sleep_s=0.2 --watch",
        "dataloader doctor    what is missing, and what to do",
    ),
)


def register_roles(app: Typer) -> None:
    """Enter the commands."""
    app.callback(invoke_without_command=True, help=_HELP)(everything)
    command(app, "up", examples=("dataloader up", "APP_PORT=9000 DL_DATA_DIR=/srv/dataloader dataloader up"))(up)
    command(app, "api", examples=("dataloader api", "dataloader api --embedded"))(api)
    command(app, "worker", examples=("dataloader worker", """WORKERS_JSON='[{"queue": "noop"}]' dataloader worker"""))(
        worker
    )


def everything(
    context: Context,
    *,
    embedded: Embedded = False,
    version: Annotated[bool, Option("--version", help="Print the version.")] = False,
) -> None:
    """Run API and workers, unless a command is given."""
    if version:
        out().print(f"dataloader {installed_version('dataloader')}")
        raise Exit
    with sentences():
        if context.invoked_subcommand is None:
            run_async(_run(api=True, workers=True, embedded=embedded))
        elif embedded:
            raise InvalidError("--embedded goes behind the command")


async def up(*, embedded: Embedded = False) -> None:
    """Start everything: a PostgreSQL of its own if none is configured, the schema, API and workers.

    The data lie under DL_DATA_DIR (.dataloader unless set). With PG_HOST or DL_DB_DSN that server is used instead,
    unless --embedded says otherwise.
    """
    from dataloader.cli.process import Roles, serve  # noqa: PLC0415 - help and clients must not wait for it

    embedded = embedded or not load_settings().has_database
    settings = configure(embedded=embedded)
    await serve(
        settings,
        Roles(api=True, workers=True),
        embedded=embedded,
        migrating=True,
        on_up=lambda port: out().print(banner(settings, port=port, embedded=embedded), ""),
    )


async def api(*, embedded: Embedded = False) -> None:
    """Run the HTTP API alone; any number may run against one database."""
    await _run(api=True, embedded=embedded)


async def worker(*, embedded: Embedded = False) -> None:
    """Run workers alone; any number may run against one database.

    WORKERS_JSON names queues and how many of their jobs run at a time; unset, it is every queue of a known task.
    """
    await _run(workers=True, embedded=embedded)


async def _run(*, api: bool = False, workers: bool = False, embedded: bool) -> None:
    from dataloader.cli.process import Roles, serve  # noqa: PLC0415 - help and clients must not wait for it

    settings = configure(embedded=embedded)
    require_database(settings)
    await serve(settings, Roles(api=api, workers=workers), embedded=embedded)


def require_database(settings: Settings) -> None:
    """See that a database is configured.

    Raises:
        SettingsError: None is.
    """
    if not settings.has_database:
        raise SettingsError(NO_DATABASE)
