"""When a failed request is worth another try, and how long to wait before it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import stamina

from dataloader.exceptions import SourceError

TRANSIENT_STATUSES = frozenset({403, 408, 425, 429})
"""Client errors that pass by themselves; busy public sources answer 403 when they mean 429."""

_SERVER_ERROR = 500


class TransientSourceError(SourceError):
    """The request failed in a way that the next try may not.

    Attributes:
        retry_after_s: What the source asked to wait, None when it did not say.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None, **details: object) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between tries: `initial_s` doubling up to `max_s`, plus up to `jitter_s` of luck.

    A source's own Retry-After replaces the computed wait, up to `retry_after_max_s`.
    """

    initial_s: float = 0.5
    max_s: float = 20.0
    jitter_s: float = 1.0
    retry_after_max_s: float = 60.0

    def attempts(self, count: int) -> AsyncIterator[stamina.Attempt]:
        """Return the tries, `count` at most; the last error of a spent series is let through."""
        return aiter(
            stamina.retry_context(
                on=self.judge,
                attempts=count,
                timeout=None,
                wait_initial=self.initial_s,
                wait_max=self.max_s,
                wait_jitter=self.jitter_s,
            )
        )

    def judge(self, error: Exception) -> bool | float:
        """Return whether to try again after `error`, or after how many seconds."""
        if not isinstance(error, TransientSourceError):
            return False
        return True if error.retry_after_s is None else min(error.retry_after_s, self.retry_after_max_s)


def is_transient(status: int) -> bool:
    """Return whether an HTTP status may change by itself."""
    return status in TRANSIENT_STATUSES or status >= _SERVER_ERROR


def parse_retry_after(value: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds a Retry-After header asks for (RFC 9110, 10.2.3), None if nothing usable."""
    text = (value or "").strip()
    if text.isascii() and text.isdecimal():
        return float(text)
    try:
        due = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    aware = due if due.tzinfo else due.replace(tzinfo=UTC)
    return math.ceil(max(0.0, (aware - (now or datetime.now(UTC))).total_seconds()))
