"""What the transition log says of runs: who held a job, from when to when, and how it ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.matrix.histories import Move


@dataclass(frozen=True, slots=True)
class RunSpan:
    """A claim of a job and its end; a run without an end lasts for ever."""

    job: str
    epoch: int
    began_s: float
    ended_s: float
    lock_key: str | None
    partition_key: str | None


def by_job(moves: Iterable[Move]) -> Mapping[str, Sequence[Move]]:
    """Return the moves of each job in order."""
    jobs: defaultdict[str, list[Move]] = defaultdict(list)
    for move in moves:
        jobs[move.job].append(move)
    return jobs


def spans(moves: Iterable[Move]) -> list[RunSpan]:
    """Return every run."""
    found: list[RunSpan] = []
    open_runs: dict[str, Move] = {}
    for move in moves:
        claim = open_runs.pop(move.job, None)
        if claim is not None:
            found.append(_span(claim, move.at_s))
        if move.status == "running":
            open_runs[move.job] = move
    return found + [_span(claim, float("inf")) for claim in open_runs.values()]


def first_starts(moves: Iterable[Move]) -> Mapping[str, Move]:
    """Return the first claim of each job that stood in line until then: a canceled one has lost its place."""
    found: dict[str, Move] = {}
    for job, its in by_job(moves).items():
        left = next((move for move in its if move.before is not None), None)
        if left is not None and left.status == "running":
            found[job] = left
    return found


def _span(claim: Move, ended_s: float) -> RunSpan:
    return RunSpan(claim.job, claim.epoch or 0, claim.at_s, ended_s, claim.lock_key, claim.partition_key)
