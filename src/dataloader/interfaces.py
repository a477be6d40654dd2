"""Protocols that have more than one implementation."""

from __future__ import annotations

from typing import Protocol


class RetryPolicy(Protocol):
    """Decides the wait before the next attempt."""

    def delay_s(self, attempt: int, *, draw: float) -> float:
        """Return the seconds to wait after a failed attempt.

        Args:
            attempt: Number of the attempt that failed, from 1.
            draw: A random number from [0, 1); the caller owns the randomness, so this stays pure.
        """
        ...
