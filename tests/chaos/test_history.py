"""A checker that cannot fail proves nothing: every rule is shown a history that breaks it, and one that does not."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.chaos.matrix.histories import Applied, Attempted, Histories, Move, Told
from tests.chaos.matrix.rules import RULES, check
from tests.chaos.matrix.rules_chunks import refused_writes, zombie_tries


def created(at_s: float, job: str, seq: int, **keys: Any) -> Move:
    return Move(0, at_s, job, seq, None, "queued", None, 0, None, 0, **keys)


def claimed(at_s: float, job: str, seq: int, epoch: int = 1, attempt: int = 1, **keys: Any) -> Move:
    return Move(0, at_s, job, seq, "queued", "running", epoch - 1, epoch, attempt - 1, attempt, **keys)


def ended(
    at_s: float,
    job: str,
    seq: int,
    status: str = "succeeded",
    *,
    epoch: int = 1,
    was: int = 1,
    now: int = 1,
    **keys: Any,
) -> Move:
    return Move(0, at_s, job, seq, "running", status, epoch, epoch, was, now, **keys)


def asked(job: str, sent_s: float = 0, answered_s: float = 1, partition: str | None = None, chunks: int = 0) -> Told:
    return Told("trigger", 201, sent_s, answered_s, f"key-{job}", job, "queued", partition, chunks)


def tried(job: str, epoch: int, chunk: int, at_s: float = 0) -> Attempted:
    return Attempted("try", job, epoch, chunk, at_s)


def raised(job: str, epoch: int, error: str = "DeliberateError") -> Attempted:
    return Attempted("raised", job, epoch, 1, 0, error)


GOOD = Histories(
    told=[
        asked("a", 0, 1, "p", 2),
        asked("b", 2, 3, "p"),
        asked("c"),
        Told("trigger", 0, 0, 1, "key-c"),
        Told("cancel", 200, 5, 6, None, "c", "canceled"),
        asked("d"),
        Told("retry", 200, 9, 10, None, "d", "queued"),
        Told("cancel", 409, 9, 10, None, "a"),
        Told("status", 200, 9, 10, None, "a", "succeeded"),
    ],
    moves=[
        created(1, "a", 1, lock_key="k", partition_key="p"),
        created(2, "b", 2, lock_key="k", partition_key="p"),
        created(2, "c", 3),
        created(2, "d", 4),
        claimed(3, "a", 1, lock_key="k", partition_key="p"),
        ended(5, "a", 1, "queued", now=0, lock_key="k", partition_key="p"),
        Move(0, 5, "c", 3, "queued", "canceled", 0, 0, 0, 0),
        claimed(6, "a", 1, 2, 1, lock_key="k", partition_key="p"),
        ended(8, "a", 1, epoch=2, lock_key="k", partition_key="p"),
        claimed(8, "b", 2, lock_key="k", partition_key="p"),
        ended(9, "b", 2, lock_key="k", partition_key="p"),
        claimed(8, "d", 4),
        ended(8.1, "d", 4, "queued"),
        claimed(8.2, "d", 4, 2, 2),
        ended(8.3, "d", 4, "failed", epoch=2, was=2, now=2),
        Move(0, 9, "d", 4, "failed", "queued", 2, 2, 2, 0),
        claimed(9.1, "d", 4, 3, 1),
        ended(9.2, "d", 4, "failed", epoch=3),
    ],
    attempted=[
        tried("a", 1, 0, 3),
        tried("a", 1, 1, 5.5),
        Attempted("refused", "a", 1, 1),
        tried("a", 2, 1, 7),
        raised("d", 1),
        raised("d", 2),
        raised("d", 3),
    ],
    applied=[Applied("a", 0, 1, 4), Applied("a", 1, 2, 7)],
    final={"a": "succeeded", "b": "succeeded", "c": "canceled", "d": "failed"},
    keys={"key-a": "a", "key-b": "b", "key-c": "c", "key-d": "d"},
    left={"advisory": 0, "connections": 0},
)


def test_what_is_right_is_found_right() -> None:
    assert check(GOOD) == []
    assert (refused_writes(GOOD), zombie_tries(GOOD)) == (1, 1)


def test_a_job_that_was_canceled_and_asked_for_again_has_lost_its_place() -> None:
    history = dataclasses.replace(
        GOOD,
        told=[
            asked("e", 0, 1, "p"),
            Told("cancel", 200, 1, 2, None, "e", "canceled"),
            Told("retry", 200, 9, 10, None, "e", "queued"),
            *GOOD.told,
        ],
        moves=[
            created(0.5, "e", 0, partition_key="p"),
            Move(0, 1, "e", 0, "queued", "canceled", 0, 0, 0, 0, partition_key="p"),
            *GOOD.moves,
            Move(0, 9, "e", 0, "canceled", "queued", 0, 0, 0, 0, partition_key="p"),
            claimed(10, "e", 0, partition_key="p"),
            ended(11, "e", 0, partition_key="p"),
        ],
        final={**GOOD.final, "e": "succeeded"},
        keys={**GOOD.keys, "key-e": "e"},
    )
    assert check(history) == []


def told(*more: Told) -> dict[str, Any]:
    return {"told": [*GOOD.told, *more]}


def moves(*more: Move) -> dict[str, Any]:
    return {"moves": [*GOOD.moves, *more]}


def without(field: str, place: int) -> dict[str, Any]:
    kept = list(getattr(GOOD, field))
    del kept[place]
    return {field: kept}


def changed(place: int, **facts: Any) -> dict[str, Any]:
    kept = list(GOOD.moves)
    kept[place] = kept[place]._replace(**facts)
    return {"moves": kept}


def final(**statuses: str) -> dict[str, Any]:
    return {"final": {**GOOD.final, **statuses}}


BROKEN = [
    ("acknowledged_is_kept", {"final": {"a": "succeeded", "b": "succeeded", "c": "canceled"}}),
    ("acknowledged_is_kept", final(b="running")),
    ("acknowledged_is_kept", final(b="queued")),
    ("acknowledged_is_kept", told(Told("status", 404, 0, 1, None, "a"))),
    ("one_job_per_key", told(Told("trigger", 200, 0, 1, "key-a", "b"))),
    ("one_job_per_key", {"keys": {**GOOD.keys, "key-a": "x"}}),
    ("one_job_per_key", told(Told("trigger", 409, 0, 1, "key-a"))),
    ("one_job_per_key", {"keys": {**GOOD.keys, "key-x": "a"}}),
    ("nothing_out_of_thin_air", final(x="succeeded")),
    ("nothing_out_of_thin_air", {"keys": {**GOOD.keys, "key-x": "x"}} | final(x="succeeded")),
    ("what_was_told_was_so", told(Told("status", 200, 0, 1, None, "b", "failed"))),
    ("what_was_told_was_so", final(a="canceled")),
    ("started_as_acknowledged", told(asked("a", 4, 5, "p", 2)) | {"told": [asked("a", 4, 5, "p", 2), *GOOD.told[1:]]}),
    ("only_legal_moves", changed(6, before="succeeded")),
    ("only_legal_moves", moves(Move(0, 11, "a", 1, "succeeded", "failed", 2, 2, 1, 1))),
    ("only_legal_moves", moves(Move(0, 11, "a", 1, "succeeded", None, 2, None, 1, None))),
    ("only_legal_moves", changed(5, asked=True)),
    ("only_legal_moves", without("told", 6)),
    ("epochs_count_claims", changed(0, epoch=1)),
    ("epochs_count_claims", changed(4, epoch=2)),
    ("epochs_count_claims", changed(4, attempt=0)),
    ("epochs_count_claims", changed(8, epoch=3)),
    ("rows_agree_with_their_log", without("moves", 0)),
    ("rows_agree_with_their_log", without("moves", 5)),
    ("rows_agree_with_their_log", final(b="failed")),
    ("rows_agree_with_their_log", final(x="failed")),
    ("ends_have_a_reason", {"attempted": [one for one in GOOD.attempted if one.job != "d"]}),
    ("ends_have_a_reason", without("told", 4)),
    ("ends_have_a_reason", changed(8, status="lost")),
    ("only_failures_are_charged", changed(5, attempt=1)),
    ("only_failures_are_charged", changed(5, attempt=-1)),
    ("only_failures_are_charged", without("attempted", 4)),
    ("only_failures_are_charged", changed(15, attempt=2)),
    ("keys_are_exclusive", changed(9, at_s=7, partition_key=None)),
    ("keys_are_exclusive", without("moves", 8)),
    ("partitions_are_exclusive", changed(9, at_s=7, lock_key=None)),
    ("partitions_start_in_order", changed(9, seq=0)),
    ("no_chunk_twice", {"applied": [*GOOD.applied, Applied("a", 1, 2, 7)]}),
    ("no_chunk_missing", without("applied", 1)),
    ("no_chunk_missing", without("applied", 0)),
    ("no_chunk_untried", without("attempted", 3)),
    ("chunks_lie_in_their_runs", {"applied": [Applied("a", 0, 1, 4), Applied("a", 1, 1, 5.5)]}),
    ("chunks_lie_in_their_runs", {"applied": [Applied("a", 0, 1, 2), Applied("a", 1, 2, 7)]}),
    ("chunks_lie_in_their_runs", {"applied": [Applied("a", 0, 9, 4), Applied("a", 1, 2, 7)]}),
    ("left_at_rest", {"left": {"advisory": 1}}),
]


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule}-{n}" for n, (rule, _) in enumerate(BROKEN)])
def test_what_is_wrong_is_found_by_its_rule(rule: str, change: dict[str, Any]) -> None:
    assert rule in {one.rule for one in check(dataclasses.replace(GOOD, **change))}


def test_every_rule_is_shown_a_history_that_breaks_it() -> None:
    assert {rule for rule, _ in BROKEN} == {rule.__name__ for rule in RULES}
