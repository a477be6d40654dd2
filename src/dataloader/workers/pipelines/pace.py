"""How large a chunk should be."""

from __future__ import annotations

from dataclasses import dataclass

TARGET_S = 2.0
"""So much loading is repeated at most when a worker dies."""

_GROWTH = 4.0


@dataclass(frozen=True, slots=True)
class Span:
    """Sizes of chunks: the first, the least, the most."""

    first: int
    least: int
    most: int


class Pace:
    """Adapts chunks towards a few seconds each, to lose little when a run dies and spend little on commits.

    Args:
        span: Sizes to stay within.
        fixed: The size of every chunk; None to adapt.

    Attributes:
        size: Of the next chunk.
    """

    def __init__(self, span: Span, *, fixed: int | None = None) -> None:
        self._span = span
        self._fixed = fixed
        self.size = fixed or span.first

    def took(self, size: int, seconds: float) -> None:
        """Learn how long a chunk took, its commit included."""
        if self._fixed or not size:
            return
        wanted = size * TARGET_S / max(seconds, 0.001)
        self.size = int(max(min(wanted, self.size * _GROWTH, self._span.most), self._span.least))
