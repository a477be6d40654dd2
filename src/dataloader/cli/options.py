"""Options that many commands share, and how a command enters the command line."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Annotated, ParamSpec

from rich.console import Console
from typer import Option, Typer

from dataloader.cli.ending import run_async, sentences
from dataloader.config import Settings, load_settings
from dataloader.embedded import EmbeddedServer
from dataloader.logger import Logger

P = ParamSpec("P")

SERVICE_PANEL = "Where the service is"
CLIENT_PANEL = "Talk to a running service"

Embedded = Annotated[
    bool,
    Option(
        "--embedded",
        help="Use the embedded PostgreSQL under DL_DATA_DIR, starting it if it does not run.",
        rich_help_panel=SERVICE_PANEL,
    ),
]
Url = Annotated[
    str | None,
    Option(
        "--url",
        help="Address of the API; http://127.0.0.1:APP_PORT unless given.",
        rich_help_panel=SERVICE_PANEL,
        show_default=False,
    ),
]
AsJson = Annotated[bool, Option("--json", help="Print JSON, for scripts.")]


def command(
    app: Typer, name: str, *, examples: tuple[str, ...], panel: str | None = None
) -> Callable[[Callable[P, Awaitable[None] | None]], Callable[P, Awaitable[None] | None]]:
    """Enter a function as a command: its docstring and the examples are the help, its errors are sentences.

    Args:
        app: Where it belongs.
        name: What it is called there.
        examples: Whole command lines.
        panel: Heading in the list of commands.
    """

    def enter(function: Callable[P, Awaitable[None] | None]) -> Callable[P, Awaitable[None] | None]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            with sentences():
                result = function(*args, **kwargs)
                if inspect.iscoroutine(result):
                    run_async(result)

        app.command(name, help=help_text(inspect.getdoc(function) or "", examples), rich_help_panel=panel)(run)
        return function

    return enter


def help_text(text: str, examples: tuple[str, ...]) -> str:
    """Return a help text with examples whose lines stay as they are."""
    lines = "\n".join(f"  {example}".replace("[", r"\[") for example in examples)
    return f"{text}\n\n\b\nExamples:\n{lines}"


def configure(*, embedded: bool, **overrides: object) -> Settings:
    """Read the settings; with `embedded` they lead to the server of DL_DATA_DIR, which is not started here.

    Args:
        embedded: Whether to use it.
        overrides: Settings that win over the environment.

    Raises:
        SettingsError: A setting is wrong.
        EmbeddedServerError: The extra is not installed.
    """
    settings = load_settings(**overrides)
    return load_settings(**overrides | embedded_server(settings).overrides()) if embedded else settings


def embedded_server(settings: Settings, *, logger: Logger | None = None) -> EmbeddedServer:
    """Return the embedded server of these settings, not started."""
    return EmbeddedServer(settings.dl_data_dir, bindir=settings.dl_pg_bindir, logger=logger)


@asynccontextmanager
async def attached(settings: Settings, *, embedded: bool) -> AsyncIterator[None]:
    """Keep the embedded server running meanwhile, if it is the one to be used.

    Raises:
        EmbeddedServerError: It does not start.
    """
    if not embedded:
        yield
        return
    server = embedded_server(settings)
    with nullcontext() if server.is_running else Console(stderr=True).status("Starting the embedded PostgreSQL"):
        await server.start()
    try:
        yield
    finally:
        await server.stop()
