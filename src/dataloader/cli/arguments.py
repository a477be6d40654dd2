"""Reading what people type: job arguments, labels, points in time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from dataloader.exceptions import InvalidError

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DELAY = re.compile(r"\+(\d{1,9})([smhd])")


def job_args(pairs: Iterable[str], text: str | None) -> dict[str, object]:
    """Return a job's arguments: the object of `--args`, with every `key=value` on top.

    Raises:
        InvalidError: One of them cannot be read.
    """
    return _object(text) | {name: _value(value) for name, value in map(_pair, pairs)}


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """Return labels given as `name=value`."""
    return dict(map(_pair, pairs))


def due_at(text: str | None, *, now: datetime | None = None) -> datetime | None:
    """Return the instant of `+15m` or of an ISO 8601 time, which is local unless it says otherwise.

    Raises:
        InvalidError: It is neither.
    """
    if text is None:
        return None
    if delay := _DELAY.fullmatch(text.strip()):
        return (now or datetime.now(UTC)) + timedelta(**{_UNITS[delay[2]]: int(delay[1])})
    return instant(text, option="--at")


def instant(text: str, *, option: str) -> datetime:
    """Return an ISO 8601 time, which is local unless it says otherwise.

    Raises:
        InvalidError: It is none; names the option.
    """
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError):
        raise InvalidError(
            f"{option}: {text!r} is not a time like 2026-01-31T08:00 or 2026-01-31T08:00+03:00"
        ) from None


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidError(f"{text!r} is not of the form name=value")
    return name, value


def _value(text: str) -> object:
    """Return JSON if it is some, else the text itself: `n=3` is a number, `day=2025-04-01` a text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _object(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"--args: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise InvalidError(f'--args: must be a JSON object like {{"chunks": 3}}, not {type(value).__name__}')
    return value
