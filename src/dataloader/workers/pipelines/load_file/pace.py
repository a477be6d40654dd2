"""How large a chunk should be."""

from __future__ import annotations

FIRST_BYTES = 4 * 1024 * 1024
LEAST_BYTES = 256 * 1024
MOST_BYTES = 256 * 1024 * 1024
MOST_BYTES_HELD = 8 * 1024 * 1024
"""Where a chunk is held in memory, to look for rows in it."""

TARGET_S = 2.0
"""So much loading is repeated at most when a worker dies."""

_GROWTH = 4.0


class ChunkSize:
    """Adapts chunks towards a few seconds each, to lose little when a run dies and spend little on commits.

    Args:
        fixed: Bytes of every chunk; None to adapt.
        held: Whether chunks are held in memory.
    """

    def __init__(self, fixed: int | None, *, held: bool) -> None:
        self._fixed = fixed
        self._most = MOST_BYTES_HELD if held else MOST_BYTES
        self.bytes = fixed or min(FIRST_BYTES, self._most)

    def took(self, size: int, seconds: float) -> None:
        """Learn how long a chunk took, its commit included."""
        if self._fixed or not size:
            return
        wanted = size * TARGET_S / max(seconds, 0.001)
        grown = min(wanted, self.bytes * _GROWTH, self._most)
        self.bytes = int(max(grown, LEAST_BYTES))
