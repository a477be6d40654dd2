"""What `up` says once everything runs."""

from __future__ import annotations

from importlib.metadata import version

from rich.table import Table
from rich.text import Text

from dataloader.config import Settings


def banner(settings: Settings, *, port: int, embedded: bool) -> Table:
    """Return where everything is, and what to type next."""
    url = f"http://{settings.host}:{port}"
    at = "" if port == 8081 else f" --url {url}"
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.title = Text(f"Dataloader {version('dataloader')} is up", "bold green")
    grid.title_justify = "left"
    for name, text in (
        ("API", f"{url}/api/v1"),
        ("Data", _place(settings, embedded=embedded)),
        ("Try it", f"dataloader trigger noop chunks=20 sleep_s=0.5 --watch{at}"),
        ("", f"dataloader jobs list{at}"),
        ("Stop", "Ctrl-C; running jobs are handed over and go on at the next start"),
    ):
        grid.add_row(Text(name, "bold"), Text(text, overflow="fold"))
    return grid


def _place(settings: Settings, *, embedded: bool) -> str:
    if not embedded:
        return "the configured PostgreSQL"
    return f"{settings.dl_data_dir.absolute()} (embedded PostgreSQL)"
