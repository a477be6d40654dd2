"""Puts what a run measured into a page: the tables between two marks, the chart beside it; the prose stays."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks.chart import Bar, Panel, svg
from benchmarks.report import Measured, Report, Topic, rounded

BEGIN = "<!-- measured: what follows is written by `make bench` -->"
END = "<!-- end of what was measured -->"
OURS = "Dataloader"


def write(page: Path, report: Report, *, machine: str) -> None:
    """Replace the measured part of a page and its chart, which lies beside it under the same name.

    Args:
        page: A Markdown page with both marks.
        report: What the run measured.
        machine: What it ran on.
    """
    text = page.read_text("utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    blocks = [BEGIN, f"{machine}.", report.table(), END]
    if report.panels:
        picture = page.with_suffix(".svg")
        picture.write_text(chart(report), "utf-8")
        blocks.insert(2, f"![Dataloader beside other queues, from the tables below]({picture.name})")
    page.write_text(before + "\n\n".join(blocks) + after, "utf-8")


def chart(report: Report) -> str:
    """Return the chart of a run, medians of its rounds."""
    panels = [_panel(topic, figures) for topic, figures in report.panels.items()]
    said = "; ".join(f"{panel.title}: {', '.join(f'{bar.label} {bar.text}' for bar in panel.bars)}" for panel in panels)
    return svg(panels, label=said)


def _panel(topic: Topic, figures: Mapping[str, Measured]) -> Panel:
    bars = [_bar(name, measured, topic.unit) for name, measured in figures.items()]
    return Panel(topic.title, topic.note, sorted(bars, key=lambda bar: not bar.ours))


def _bar(name: str, measured: Measured, unit: str) -> Bar:
    value = statistics.median(measured.values)
    tail = statistics.median(measured.tails) if measured.tails else None
    text = f"{rounded(value)} {unit}" if tail is None else f"{rounded(value)} / {rounded(tail)} {unit}"
    return Bar(name, value, text, tail, name.startswith(OURS))
