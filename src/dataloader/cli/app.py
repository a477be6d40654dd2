"""The command line as a whole."""

from __future__ import annotations

from typer import Typer

from dataloader.cli.demo.command import register_demo
from dataloader.cli.doctor import register_doctor
from dataloader.cli.fleet import register_fleet
from dataloader.cli.jobs import register_jobs
from dataloader.cli.roles import register_roles
from dataloader.cli.run import register_run
from dataloader.cli.schema import register_migrate
from dataloader.cli.trigger import register_trigger


def build() -> Typer:
    """Return the command line."""
    app = Typer(
        name="dataloader",
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
        pretty_exceptions_enable=False,
    )
    register_roles(app)
    register_migrate(app)
    register_run(app)
    register_trigger(app)
    register_jobs(app)
    register_fleet(app)
    register_doctor(app)
    register_demo(app)
    return app


def main() -> None:
    """Run the command line of this process; it ends the process."""
    build()(prog_name="dataloader")
