"""When a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_S = 3_600.0


def _jittered(delay_s: float, jitter: float, draw: float) -> float:
    """Spread `delay_s` evenly over ± `jitter` of itself."""
    return delay_s * (1 + jitter * (2 * draw - 1))


@dataclass(frozen=True, slots=True)
class LinearBackoff:
    """Wait `base_s x attempt`, at most `max_s`, spread by ± `jitter`."""

    base_s: float = 30.0
    max_s: float = HOUR_S
    jitter: float = 0.2

    def delay_s(self, attempt: int, *, draw: float) -> float:
        """Return the seconds to wait after a failed attempt."""
        return min(_jittered(self.base_s * attempt, self.jitter, draw), self.max_s)


@dataclass(frozen=True, slots=True)
class ExponentialBackoff:
    """Wait `base_s x 2^(attempt - 1)`, at most `max_s`, spread by ± `jitter`."""

    base_s: float = 10.0
    max_s: float = HOUR_S
    jitter: float = 0.2

    def delay_s(self, attempt: int, *, draw: float) -> float:
        """Return the seconds to wait after a failed attempt."""
        grown = self.base_s * 2.0 ** min(attempt - 1, 60)
        return min(_jittered(grown, self.jitter, draw), self.max_s)


DEFAULT_RETRY = LinearBackoff()
