"""How far a job is, how fast it goes and when it will be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_TEXT_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress as a pipeline reports it.

    Attributes:
        done: Units done so far, over all attempts.
        total: Units there are, None when unknown.
        unit: What is counted, such as `days` or `rows`.
        message: One line for people.
    """

    done: float | None = None
    total: float | None = None
    unit: str | None = None
    message: str | None = None

    def merged(self, update: Mapping[str, object]) -> Progress:
        """Return this progress with the fields of `update`; unknown fields are dropped."""
        return Progress(
            done=_number(update.get("done"), self.done),
            total=_number(update.get("total"), self.total),
            unit=_text(update.get("unit"), self.unit),
            message=_text(update.get("message"), self.message),
        )

    @classmethod
    def from_json(cls, value: object) -> Progress:
        """Read the form kept in the job's row; what was written there by hand may be anything."""
        return cls().merged(value) if isinstance(value, Mapping) else cls()


def _number(value: object, otherwise: float | None) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return value if usable and isinstance(value, int | float) else otherwise


def _text(value: object, otherwise: str | None) -> str | None:
    return value[:_TEXT_LIMIT] if isinstance(value, str) else otherwise


@dataclass(slots=True)
class ProgressMeter:
    """Measures the rate of one run; progress made by earlier attempts does not count as speed.

    Args:
        started_s: Monotonic time at which the run began.
        current: Progress left by earlier attempts.
    """

    started_s: float
    current: Progress
    _base: float | None = None

    def __post_init__(self) -> None:
        self._base = self.current.done

    def update(self, update: Mapping[str, object]) -> None:
        """Take what the pipeline reported."""
        self.current = self.current.merged(update)
        if self._base is None or (self.current.done is not None and self.current.done < self._base):
            self._base = 0.0

    def as_json(self, now_s: float) -> dict[str, object]:
        """Return the form kept in the job's row: the fields, `rate` per second and `eta_s`."""
        rate = self._rate(now_s)
        progress = self.current
        remaining = None if progress.total is None or progress.done is None else progress.total - progress.done
        eta_s = None if not rate or remaining is None else round(max(remaining, 0.0) / rate, 1)
        return {
            "done": progress.done,
            "total": progress.total,
            "unit": progress.unit,
            "message": progress.message,
            "rate": None if rate is None else round(rate, 3),
            "eta_s": eta_s,
        }

    def _rate(self, now_s: float) -> float | None:
        elapsed_s = now_s - self.started_s
        if self.current.done is None or self._base is None or elapsed_s <= 0:
            return None
        return (self.current.done - self._base) / elapsed_s
