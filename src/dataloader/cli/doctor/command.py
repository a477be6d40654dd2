"""The command and its report."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Group
from rich.table import Table
from rich.text import Text
from typer import Exit, Typer

from dataloader.cli.doctor.finding import Finding, Report, Verdict
from dataloader.cli.ending import ExitCode
from dataloader.cli.options import AsJson, Embedded, attached, command, configure
from dataloader.cli.screen import out, print_json
from dataloader.config import Settings
from dataloader.embedded.home import Home

_MARKS = {
    Verdict.OK: ("✓", "green"),
    Verdict.WARNING: ("!", "yellow"),
    Verdict.FAILED: ("✗", "bold red"),
    Verdict.SKIPPED: ("-", "dim"),
}


def register_doctor(app: Typer) -> None:
    """Enter the command."""
    command(app, "doctor", examples=("dataloader doctor", "dataloader doctor --embedded", "dataloader doctor --json"))(
        doctor
    )


async def doctor(*, embedded: Embedded = False, as_json: AsJson = False) -> None:
    """Check settings, database, logs, tasks and port, and say what to do.

    Ends with 0 when the service would work, with 1 when something keeps it from working.
    """
    report = Report()
    await report.run("settings", lambda: _examine(report, embedded=embedded))
    if as_json:
        print_json([asdict(finding) for finding in report.findings])
    else:
        out().print(Group(_table(report), _summary(report)))
    if not report.is_healthy:
        raise Exit(ExitCode.FAILED)


async def _examine(report: Report, *, embedded: bool) -> None:
    from dataloader.cli.doctor.database import examine_database  # noqa: PLC0415 - help and clients must not wait for it
    from dataloader.cli.doctor.surroundings import examine_surroundings  # noqa: PLC0415 - help and clients must not wait for it

    embedded = embedded or leads_to_embedded(configure(embedded=False))
    settings = configure(embedded=embedded)
    report.ok("settings", "all can be read")
    async with attached(settings, embedded=embedded):
        await examine_database(report, settings)
    await examine_surroundings(report, settings, embedded=embedded)


def leads_to_embedded(settings: Settings) -> bool:
    """Return whether `dataloader up` would use an embedded server that has run here before."""
    return not settings.has_database and Home.at(settings.dl_data_dir).cluster.exists()


def _table(report: Report) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in report.findings:
        mark, style = _MARKS[finding.verdict]
        table.add_row(Text(mark, style), finding.check, _words(finding))
    return table


def _words(finding: Finding) -> Text:
    words = Text(finding.detail, "dim" if finding.verdict is Verdict.SKIPPED else "")
    return words.append(f"\n→ {finding.advice}", "cyan") if finding.advice else words


def _summary(report: Report) -> Text:
    failed = sum(finding.verdict is Verdict.FAILED for finding in report.findings)
    if failed:
        return Text(f"\n{failed} of {len(report.findings)} checks failed.", "bold red")
    return Text("\nReady.", "bold green")
