"""The checker: pure functions from histories to violations. `test_history.py` shows each of them failing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.chaos.matrix import rules_chunks, rules_clients, rules_moves
from tests.chaos.matrix.histories import Histories


class Violation(NamedTuple):
    """A broken promise."""

    rule: str
    what: str


def left_at_rest(histories: Histories) -> Iterator[str]:
    """Nothing is left once nothing runs: no lock, no open transaction, no connection."""
    return (f"{count} {name}" for name, count in histories.left.items() if count)


RULES: tuple[Callable[[Histories], Iterator[str]], ...] = (
    rules_clients.acknowledged_is_kept,
    rules_clients.one_job_per_key,
    rules_clients.nothing_out_of_thin_air,
    rules_clients.what_was_told_was_so,
    rules_clients.started_as_acknowledged,
    rules_moves.only_legal_moves,
    rules_moves.epochs_count_claims,
    rules_moves.rows_agree_with_their_log,
    rules_moves.ends_have_a_reason,
    rules_moves.only_failures_are_charged,
    rules_moves.keys_are_exclusive,
    rules_moves.partitions_are_exclusive,
    rules_moves.partitions_start_in_order,
    rules_chunks.no_chunk_twice,
    rules_chunks.no_chunk_missing,
    rules_chunks.no_chunk_untried,
    rules_chunks.chunks_lie_in_their_runs,
    left_at_rest,
)


def check(histories: Histories) -> list[Violation]:
    """Return every violation."""
    return [Violation(rule.__name__, what) for rule in RULES for what in rule(histories)]
