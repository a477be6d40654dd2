"""Where a queue's claims begin, while what lies before costs more to walk over than to leave for later."""

from __future__ import annotations

from dataclasses import dataclass

from dataloader.storage.repositories.queue import BEFORE_ALL
from dataloader.storage.repositories.rows import Position, Reached

CHEAP_S = 0.001
"""A walk that takes no longer is made by every claim."""

WALK_SHARE = 0.1
"""Length of a walk over the time until the next one."""


@dataclass(slots=True)
class LowWater:
    """The mark of one queue.

    An old snapshot keeps the index entries of claimed jobs alive, and a claim from the start steps over all of them.
    While that takes long, claims begin where the last one ended. What is put before the mark, an urgent job or one
    whose key has become free, is found by the next walk from the start.
    """

    _mark: Position = BEFORE_ALL
    _walk_at_s: float = 0.0

    def after(self, now_s: float) -> Position:
        """Return where a claim begins now."""
        return self._mark if now_s < self._walk_at_s else BEFORE_ALL

    def pause_s(self, now_s: float) -> float | None:
        """Return the seconds until the next walk from the start, None while every claim makes one."""
        return self._walk_at_s - now_s if now_s < self._walk_at_s else None

    def reached(self, begun: Position, reached: Reached, now_s: float) -> None:
        """Learn from a claim that began somewhere."""
        if reached.position is not None:
            self._mark = reached.position
        if begun == BEFORE_ALL:
            costly = reached.walked_s > CHEAP_S and self._mark != BEFORE_ALL
            self._walk_at_s = now_s + reached.walked_s / WALK_SHARE if costly else 0.0
