"""What the fenced table must hold, seen from the ledger and the transition log."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.matrix.histories import Histories
from tests.chaos.matrix.rules_clients import acknowledged
from tests.chaos.matrix.runs import spans


def no_chunk_twice(histories: Histories) -> Iterator[str]:
    """A chunk is applied once, however often it was tried."""
    for (job, chunk), count in Counter((row.job, row.chunk) for row in histories.applied).items():
        if count > 1:
            yield f"chunk {chunk} of {job} was applied {count} times"


def no_chunk_missing(histories: Histories) -> Iterator[str]:
    """A job that succeeded has all its chunks; another one has the first ones, without a gap."""
    wanted = {str(one.job): one.chunks for one in acknowledged(histories)}
    chunks: defaultdict[str, set[int]] = defaultdict(set)
    for row in histories.applied:
        chunks[row.job].add(row.chunk)
    for job, count in wanted.items():
        if histories.final.get(job) == "succeeded" and len(chunks[job]) != count:
            yield f"{job} succeeded with {len(chunks[job])} of {count} chunks"
    for job, found in chunks.items():
        if found and found != set(range(max(found) + 1)):
            yield f"{job} has a gap in {sorted(found)}"


def no_chunk_untried(histories: Histories) -> Iterator[str]:
    """What is in the table was tried by the run that is named in it."""
    tried = {(one.job, one.epoch, one.chunk) for one in histories.attempted if one.event == "try"}
    for row in histories.applied:
        if (row.job, row.epoch, row.chunk) not in tried:
            yield f"chunk {row.chunk} of {row.job} was applied in epoch {row.epoch} and never tried"


def chunks_lie_in_their_runs(histories: Histories) -> Iterator[str]:
    """A chunk is written while its run holds the job, neither before nor after: no zombie gets through."""
    held = {(span.job, span.epoch): span for span in spans(histories.moves)}
    for row in histories.applied:
        span = held.get((row.job, row.epoch))
        if span is None:
            yield f"chunk {row.chunk} of {row.job} was applied in epoch {row.epoch}, which was never claimed"
        elif not span.began_s <= row.at_s <= span.ended_s:
            yield f"chunk {row.chunk} of {row.job} was applied outside of epoch {row.epoch}"


def refused_writes(histories: Histories) -> int:
    """Return how many chunks the fence turned away."""
    return sum(one.event == "refused" for one in histories.attempted)


def zombie_tries(histories: Histories) -> int:
    """Return how many chunks were begun by runs whose job had been taken away already."""
    held = {(span.job, span.epoch): span for span in spans(histories.moves)}
    return sum(
        1
        for one in histories.attempted
        if one.event == "try" and (span := held.get((one.job, one.epoch))) and one.at_s > span.ended_s
    )
