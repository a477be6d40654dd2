"""What a run measured, as a table for people."""

from __future__ import annotations

import statistics
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pair:
    """One figure of ours beside the limit measured in the same round.

    Attributes:
        unit: Of both figures.
        rounds: Ours and the limit, round by round.
    """

    name: str
    unit: str
    limit: str
    rounds: list[tuple[float, float]]

    def row(self) -> str:
        """Return a row of the Markdown table: medians, and the median of the ratios."""
        ours = statistics.median(one for one, _ in self.rounds)
        limit = statistics.median(other for _, other in self.rounds)
        ratio = statistics.median(one / other for one, other in self.rounds)
        return f"| {self.name} | {ours:,.4g} {self.unit} | {limit:,.4g} {self.unit} | {ratio:.2f} | {self.limit} |"


HEADER = "| what | Dataloader | limit | ratio | the limit is |\n| --- | --- | --- | --- | --- |"


def table(pairs: list[Pair]) -> str:
    """Return the Markdown table of a run."""
    return "\n".join([HEADER, *(pair.row() for pair in pairs)])
