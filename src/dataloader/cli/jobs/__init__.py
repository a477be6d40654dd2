"""`dataloader jobs …`: look at jobs and move them."""

from __future__ import annotations

from typer import Typer

from dataloader.cli.jobs.listing import list_jobs
from dataloader.cli.jobs.moving import cancel_jobs, retry_jobs, watch
from dataloader.cli.jobs.showing import show_job
from dataloader.cli.options import CLIENT_PANEL, command

_ONE = "019a2f6e-5c1b-7d3e-9f00-1a2b3c4d5e6f"

__all__ = ["register_jobs"]


def register_jobs(app: Typer) -> None:
    """Enter the group."""
    group = Typer(no_args_is_help=True, help="List, show, watch, cancel and retry jobs.", rich_markup_mode="rich")
    app.add_typer(group, name="jobs", rich_help_panel=CLIENT_PANEL)
    many = ("dataloader jobs list", "dataloader jobs list --status failed --status lost --since 2026-01-31 --json")
    command(group, "list", examples=many)(list_jobs)
    command(group, "show", examples=(f"dataloader jobs show {_ONE}",))(show_job)
    command(group, "watch", examples=(f"dataloader jobs watch {_ONE}",))(watch)
    command(group, "cancel", examples=(f"dataloader jobs cancel {_ONE}",))(cancel_jobs)
    command(group, "retry", examples=(f"dataloader jobs retry {_ONE} --from-start",))(retry_jobs)
