"""What a run measured, as tables for people."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of ours beside another of the same round.

    Attributes:
        part: Of the run.
        unit: Of both figures.
        other: What the other figure is of.
        rounds: Ours and the other, round by round.
    """

    part: str
    name: str
    unit: str
    other: str
    rounds: list[tuple[float, float]]

    def row(self) -> str:
        """Return a row of the Markdown table: medians, and the median of the ratios."""
        ours = statistics.median(one for one, _ in self.rounds)
        others = statistics.median(other for _, other in self.rounds)
        ratio = statistics.median(one / other for one, other in self.rounds)
        return f"| {self.name} | {self._said(ours)} | {self._said(others)} | {ratio:.2f} | {self.other} |"

    def _said(self, value: float) -> str:
        return f"{rounded(value)} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Topic:
    """What a panel of the chart is about.

    Attributes:
        note: How to read it.
    """

    title: str
    unit: str
    note: str


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure for the chart, round by round.

    Attributes:
        values: What its bar shows.
        tails: What its pale bar shows, a figure like the 99th percentile; empty for none.
    """

    values: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)


HEADER = "| what (medians) | Dataloader | other | ratio | the other is |\n| --- | --- | --- | --- | --- |"


class Report:
    """Collects figures, round by round.

    Attributes:
        part: What is being measured now.
        panels: Figures for the chart, by topic and by name.
    """

    def __init__(self) -> None:
        self.part = ""
        self.panels: defaultdict[Topic, defaultdict[str, Measured]] = defaultdict(lambda: defaultdict(Measured))
        self._pairs: dict[tuple[str, str, str], Pair] = {}

    def add(self, name: str, unit: str, figures: tuple[float, float], *, other: str) -> None:
        """Add a round's figures, ours first, to the pair of that name and of that other."""
        pair = self._pairs.setdefault((self.part, name, other), Pair(self.part, name, unit, other, []))
        pair.rounds.append(figures)

    def draw(self, topic: Topic, name: str, value: float, tail: float | None = None) -> None:
        """Add a round's figure to a panel of the chart."""
        measured = self.panels[topic][name]
        measured.values.append(value)
        if tail is not None:
            measured.tails.append(tail)

    def table(self) -> str:
        """Return the Markdown tables of the run, one for each part."""
        parts: defaultdict[str, list[str]] = defaultdict(list)
        for pair in self._pairs.values():
            parts[pair.part].append(pair.row())
        return "\n\n".join("\n".join([f"### {part}", "", HEADER, *rows]) for part, rows in parts.items())


def rounded(value: float) -> str:
    """Return a figure with three digits or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
