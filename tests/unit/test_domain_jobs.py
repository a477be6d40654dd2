"""States, and the keys a job occupies."""

from __future__ import annotations

import time
from uuid import RFC_4122

import pytest

from dataloader.domain.jobs import FINISHED, RETRYABLE, TRANSITIONS, JobStatus, Keys, can_move, new_job_id

S = JobStatus

ALLOWED = {
    (S.QUEUED, S.RUNNING),
    (S.QUEUED, S.CANCELED),
    (S.RUNNING, S.SUCCEEDED),
    (S.RUNNING, S.FAILED),
    (S.RUNNING, S.CANCELED),
    (S.RUNNING, S.LOST),
    (S.RUNNING, S.QUEUED),
    (S.FAILED, S.QUEUED),
    (S.CANCELED, S.QUEUED),
    (S.LOST, S.QUEUED),
}


@pytest.mark.parametrize("before", list(S))
@pytest.mark.parametrize("after", list(S))
def test_only_the_moves_of_the_contract_are_allowed(before: JobStatus, after: JobStatus) -> None:
    assert can_move(before, after) is ((before, after) in ALLOWED)


def test_every_state_is_in_the_table_and_ends_somewhere() -> None:
    assert set(TRANSITIONS) == set(S)
    assert {status for status in S if status.is_finished} == FINISHED == set(S) - {S.QUEUED, S.RUNNING}


def test_what_may_be_retried_is_what_may_return_from_an_end() -> None:
    assert {status for status in FINISHED if can_move(status, S.QUEUED)} == RETRYABLE


def test_keys_of_a_job_are_those_it_has() -> None:
    assert Keys.of(None, None) == Keys()
    assert Keys.of("l", None) == Keys(frozenset({"l"}))
    assert Keys.of(None, "p") == Keys(partitions=frozenset({"p"}))


def test_keys_add_up_and_none_are_false() -> None:
    both = Keys.of("a", "p") | Keys.of("b", "p")

    assert both == Keys(frozenset({"a", "b"}), frozenset({"p"}))
    assert both
    assert Keys.of(None, "p")
    assert not Keys()


def test_an_id_made_here_is_a_version_7_uuid_that_begins_with_the_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    ids = [new_job_id() for _ in range(1_000)]
    after_ms = time.time_ns() // 1_000_000

    assert all((one.version, one.variant) == (7, RFC_4122) for one in ids)
    assert all(before_ms <= one.int >> 80 <= after_ms for one in ids)
    assert len(set(ids)) == len(ids)
