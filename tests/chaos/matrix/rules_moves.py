"""What the transition log must look like."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

from tests.chaos.matrix.histories import Histories, Move
from tests.chaos.matrix.runs import RunSpan, by_job, first_starts, spans

LEGAL = {
    None: {"queued"},
    "queued": {"running", "canceled"},
    "running": {"queued", "succeeded", "failed", "canceled", "lost"},
    "failed": {"queued"},
    "canceled": {"queued"},
    "lost": {"queued"},
}
CHARGED = frozenset({"DeliberateError", "InjectedError", "LockNotAvailableError"})
"""Errors that are failures of the job; every other end of a run is nobody's fault."""


def only_legal_moves(histories: Histories) -> Iterator[str]:
    """Only moves that the specification names; by hand only what somebody asked for; a stop that was asked is one."""
    retries = Counter(one.job for one in histories.told if one.op == "retry")
    for move in histories.moves:
        if move.status not in LEGAL.get(move.before, set()):
            yield f"{move.job} went from {move.before} to {move.status}"
        elif move.before not in {None, "queued", "running"} and not retries[move.job]:
            yield f"{move.job} left {move.before} although nobody asked"
        elif move.before == "running" and move.status == "queued" and move.asked:
            yield f"{move.job} was asked to stop and went back to the queue"


def epochs_count_claims(histories: Histories) -> Iterator[str]:
    """The epoch grows by one with a claim and never else; so does the attempt."""
    for move in histories.moves:
        claim = int(move.status == "running")
        if move.before is None:
            wrong = (move.epoch, move.attempt) != (0, 0)
        elif claim:
            wrong = (move.epoch, move.attempt) != ((move.was_epoch or 0) + 1, (move.was_attempt or 0) + 1)
        else:
            wrong = move.epoch != move.was_epoch
        if wrong:
            yield (
                f"{move.job}, {move.before} to {move.status}: epoch {move.was_epoch} to {move.epoch}, "
                f"attempt {move.was_attempt} to {move.attempt}"
            )


def rows_agree_with_their_log(histories: Histories) -> Iterator[str]:
    """Each move begins where the one before it ended, and the last one leads to the row as it is."""
    jobs = by_job(histories.moves)
    for job, moves in jobs.items():
        if moves[0].before is not None:
            yield f"{job} begins with {moves[0].before}"
        for one, other in pairwise(moves):
            if (one.status, one.epoch, one.attempt) != (other.before, other.was_epoch, other.was_attempt):
                yield f"{job} jumped from {one.status} ({one.epoch}) to {other.before} ({other.was_epoch})"
        if moves[-1].status != histories.final.get(job):
            yield f"{job} is {histories.final.get(job)}, its log ends with {moves[-1].status}"
    for job in histories.final.keys() - jobs.keys():
        yield f"{job} has no log"


def ends_have_a_reason(histories: Histories) -> Iterator[str]:
    """A job fails by its own errors, is canceled when somebody asked, and is never lost: it may lose many workers."""
    failed = {one.job for one in histories.attempted if one.event == "raised" and one.error in CHARGED}
    cancels = {one.job for one in histories.told if one.op == "cancel"}
    for move in histories.moves:
        if move.status == "failed" and move.job not in failed:
            yield f"{move.job} failed without an error of its own"
        if move.status == "canceled" and move.job not in cancels:
            yield f"{move.job} was canceled although nobody asked"
        if move.status == "lost":
            yield f"{move.job} was lost"


def only_failures_are_charged(histories: Histories) -> Iterator[str]:
    """An attempt is spent by an error of the job, and not by a death, a hand-over, an outage or a wait."""
    failed = {(one.job, one.epoch) for one in histories.attempted if one.event == "raised" and one.error in CHARGED}
    for move in histories.moves:
        if move.before == "running" and move.status == "queued":
            charged = (move.attempt or 0) - (move.was_attempt or 0) + 1
            if charged not in {0, 1} or (charged and (move.job, move.was_epoch) not in failed):
                yield f"{move.job}, epoch {move.was_epoch}: attempt {move.was_attempt} became {move.attempt}"
        elif move.before in LEGAL and move.before not in {None, "queued", "running"} and move.attempt != 0:
            yield f"{move.job} was retried by hand with attempt {move.attempt}"


def keys_are_exclusive(histories: Histories) -> Iterator[str]:
    """Two jobs of a lock key never run at a time."""
    return _overlaps(histories, lambda span: span.lock_key)


def partitions_are_exclusive(histories: Histories) -> Iterator[str]:
    """Two jobs of a partition never run at a time."""
    return _overlaps(histories, lambda span: span.partition_key)


def partitions_start_in_order(histories: Histories) -> Iterator[str]:
    """The jobs of a partition start for the first time in the order in which they were written."""
    partitions: defaultdict[str, list[Move]] = defaultdict(list)
    for move in sorted(first_starts(histories.moves).values(), key=lambda move: move.at_s):
        if move.partition_key is not None:
            partitions[move.partition_key].append(move)
    for partition, moves in partitions.items():
        for one, other in pairwise(moves):
            if other.seq < one.seq:
                yield f"{other.job} of {partition} started after {one.job}"


def _overlaps(histories: Histories, key_of: Callable[[RunSpan], str | None]) -> Iterator[str]:
    keys: defaultdict[str, list[RunSpan]] = defaultdict(list)
    for span in spans(histories.moves):
        if (key := key_of(span)) is not None:
            keys[key].append(span)
    for key, stays in keys.items():
        for before, after in pairwise(sorted(stays, key=lambda span: span.began_s)):
            if after.began_s < before.ended_s:
                yield f"{before.job} and {after.job} had {key} at the same time"
