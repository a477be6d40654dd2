"""What a run measured, as a table for people."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of ours beside another of the same round.

    Attributes:
        unit: Of both figures.
        other: What the other figure is of.
        rounds: Ours and the other, round by round.
    """

    name: str
    unit: str
    other: str
    rounds: list[tuple[float, float]]

    def row(self) -> str:
        """Return a row of the Markdown table: medians, and the median of the ratios."""
        ours = statistics.median(one for one, _ in self.rounds)
        others = statistics.median(other for _, other in self.rounds)
        ratio = statistics.median(one / other for one, other in self.rounds)
        return f"| {self.name} | {ours:,.4g} {self.unit} | {others:,.4g} {self.unit} | {ratio:.2f} | {self.other} |"


HEADER = "| what (medians) | Dataloader | other | ratio | the other is |\n| --- | --- | --- | --- | --- |"


class Report:
    """Collects pairs, round by round."""

    def __init__(self) -> None:
        self._pairs: dict[str, Pair] = {}

    def add(self, name: str, unit: str, figures: tuple[float, float], *, other: str) -> None:
        """Add a round's figures, ours first, to the pair of that name and of that other."""
        pair = self._pairs.setdefault(f"{name} {other}", Pair(name, unit, other, []))
        pair.rounds.append(figures)

    def table(self) -> str:
        """Return the Markdown table of the run."""
        return "\n".join([HEADER, *(pair.row() for pair in self._pairs.values())])
