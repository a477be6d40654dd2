"""What a run's child and its parent say to each other: JSON lines from the child, for it is not trusted."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from dataloader.domain.json_values import described
from dataloader.domain.outcomes import (
    Abandoned,
    Canceled,
    Failed,
    HandedOver,
    JobError,
    Outcome,
    Postponed,
    Succeeded,
)
from dataloader.workers.runs import Run

FRAME_LIMIT_BYTES = 16 << 20
"""Longest line taken from a child; one that says more is ended."""

_KINDS: Mapping[str, type[Any]] = {
    kind.__name__: kind for kind in (Succeeded, Failed, Canceled, HandedOver, Postponed, Abandoned)
}


def state_frame(run: Run) -> bytes:
    """Return how far a run has come."""
    current = dataclasses.asdict(run.meter.current)
    return _line({"advanced": run.advanced, "rows": run.rows, "touched": run.touched_s, "progress": current})


def outcome_frame(outcome: Outcome) -> bytes:
    """Return how a run ended; a result that is no JSON value fails the job."""
    try:
        return _line({"kind": type(outcome).__name__, "fields": dataclasses.asdict(outcome)})
    except (TypeError, ValueError, RecursionError) as error:
        reason = JobError(type(error).__name__, f"the result must be a JSON value: {described(error)}")
        return outcome_frame(Failed(reason, delay_s=None))


def take_frame(run: Run, line: bytes) -> Outcome | None:
    """Enter what a child said; return the outcome if that is what it was.

    Raises:
        ValueError: It is no frame.
    """
    try:
        said = json.loads(line)
        if "kind" in said:
            return _outcome(_KINDS[said["kind"]], said["fields"])
        run.advanced = run.advanced or bool(said["advanced"])
        run.rows, run.touched_s = int(said["rows"]), float(said["touched"])
        if any(value is not None for value in said["progress"].values()):
            run.report(said["progress"])
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"not a frame: {type(error).__name__}") from error
    return None


def _outcome(kind: type[Any], fields: dict[str, Any]) -> Outcome:
    if kind is Failed:
        fields = fields | {"error": JobError(**fields["error"])}
    outcome: Outcome = kind(**fields)
    return outcome


def _line(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode() + b"\n"
