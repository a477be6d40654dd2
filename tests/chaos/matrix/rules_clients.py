"""What clients were told must hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from tests.chaos.checks import Ordered, out_of_order
from tests.chaos.matrix.histories import Histories, Told
from tests.chaos.matrix.runs import first_starts

ENDED = frozenset({"succeeded", "failed", "canceled", "lost"})
_TRIGGERED = frozenset({200, 201})


def acknowledged(histories: Histories) -> Iterator[Told]:
    """Return the triggers that were answered with a job."""
    return (one for one in histories.told if one.op == "trigger" and one.code in _TRIGGERED)


def acknowledged_is_kept(histories: Histories) -> Iterator[str]:
    """Every job that a client was told of is there and has ended."""
    for job in sorted({str(one.job) for one in acknowledged(histories)}):
        if job not in histories.final:
            yield f"{job} was acknowledged and is gone"
    for job, status in histories.final.items():
        if status not in ENDED:
            yield f"{job} is {status} at the end"
    for one in histories.told:
        if one.code == 404:
            yield f"{one.op} of {one.job} was answered 404"


def one_job_per_key(histories: Histories) -> Iterator[str]:
    """A key stands for one job, in all answers and in the service's table; nobody is refused a key of his own."""
    jobs: defaultdict[str, set[str]] = defaultdict(set)
    for one in acknowledged(histories):
        jobs[str(one.key)].add(str(one.job))
    for key, different in jobs.items():
        if len(different | {histories.keys.get(key, "none")}) > 1:
            yield f"{key} stands for {sorted(different)} and {histories.keys.get(key)}"
    for one in histories.told:
        if one.op == "trigger" and one.code == 409:
            yield f"{one.key} was refused"
    owners = list(histories.keys.values())
    if len(owners) != len(set(owners)):
        yield "two keys stand for one job"


def nothing_out_of_thin_air(histories: Histories) -> Iterator[str]:
    """Every job was asked for by somebody."""
    asked = {one.key for one in histories.told if one.op == "trigger"}
    known = {job for key, job in histories.keys.items() if key in asked}
    for job in histories.final:
        if job not in known:
            yield f"nobody asked for {job}"


def what_was_told_was_so(histories: Histories) -> Iterator[str]:
    """A status that a client was told is one the job has had; of a success nothing else comes after."""
    had: defaultdict[str, set[str | None]] = defaultdict(set)
    for move in histories.moves:
        had[move.job].add(move.status)
    for one in histories.told:
        if one.job is None or one.status is None or one.code >= 300:
            continue
        if one.status not in had[one.job]:
            yield f"{one.op} said that {one.job} is {one.status}, which it never was"
        elif one.status == "succeeded" and histories.final.get(one.job) != "succeeded":
            yield f"{one.job} was said to have succeeded and is {histories.final.get(one.job)}"


def started_as_acknowledged(histories: Histories) -> Iterator[str]:
    """In a partition, what was acknowledged before another job was even sent starts before it."""
    started = {job: move.at_s for job, move in first_starts(histories.moves).items()}
    sent: dict[str, float] = {}
    known: dict[str, tuple[str, float]] = {}
    for one in histories.told:
        if one.op == "trigger" and one.partition is not None and one.key is not None:
            sent[one.key] = min(one.sent_s, sent.get(one.key, one.sent_s))
            if one.code in _TRIGGERED and one.key not in known:
                known[one.key] = (one.partition, one.answered_s)
    ordered = [
        Ordered(partition, sent[key], answered_s, started[histories.keys[key]])
        for key, (partition, answered_s) in known.items()
        if histories.keys.get(key) in started
    ]
    if wrong := out_of_order(ordered):
        yield f"{wrong} jobs of partitions started too late"
