"""What commands print: through one console for people, as JSON for scripts."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime

from pydantic import BaseModel
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from dataloader.domain.jobs import JobStatus

_WIDE = 200
_STATUS_STYLES = {
    JobStatus.QUEUED: "cyan",
    JobStatus.RUNNING: "bold blue",
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELED: "yellow",
    JobStatus.LOST: "bold red",
}


_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_UNESCAPED = re.compile(r"[\x7f-\x9f]")
"""Control characters that JSON lets stand."""


class Screen(Console):
    """A console whose terminal takes no orders from the texts of jobs: control characters in them are left out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render without control characters other than line ends, tabs and those of the console itself."""
        for segment in super().render(renderable, options):
            if segment.control or not _CONTROL.search(segment.text):
                yield segment
            else:
                yield Segment(_CONTROL.sub("", segment.text), segment.style)


def out() -> Console:
    """Return the console for results; a pipe gets lines that are never cut."""
    return Screen(highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def print_json(value: object) -> None:
    """Print a value as JSON."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write(_UNESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def print_models(models: Iterable[BaseModel]) -> None:
    """Print answers as a JSON array."""
    print_json([model.model_dump(mode="json") for model in models])


def print_model(model: BaseModel) -> None:
    """Print an answer as a JSON object."""
    print_json(model.model_dump(mode="json"))


def table(*columns: str) -> Table:
    """Return an empty table of this look."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def status_text(status: JobStatus) -> Text:
    """Return a status in its colour."""
    return Text(status.value, _STATUS_STYLES[status])


def ago(instant: datetime | None, *, now: datetime | None = None) -> str:
    """Return how long ago an instant was, or in how long it will be; a dash for none."""
    if instant is None:
        return "-"
    seconds = ((now or datetime.now(UTC)) - instant).total_seconds()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    rest = round(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def instant_text(instant: datetime | None) -> str:
    """Return an instant in the local time zone; a dash for none."""
    return "-" if instant is None else instant.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def number_text(number: float | None) -> str:
    """Return a number as people write it; a dash for none."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 100 or number == int(number) else f"{number:,.1f}"


def amount_text(number: float | None, unit: str | None) -> str:
    """Return how much of a unit, with the unit unless it is said elsewhere: `1,234`, or bytes as `1.2 MiB`."""
    if unit != "bytes" or number is None:
        return number_text(number)
    size = float(number)
    for name in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or name == "TiB":
            break
        size /= 1024
    return f"{size:,.0f} {name}" if size >= 100 or name == "B" else f"{size:,.1f} {name}"
