"""What is said of a run, and how datasets are called."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from dataloader.domain.lineage import Transition, dataset_of, event_type, run_id

JOB = UUID(int=1)


@pytest.mark.parametrize(
    ("kind", "status", "was_running", "told"),
    [
        ("claimed", "running", False, "START"),
        ("checkpoint", "running", True, "RUNNING"),
        ("succeeded", "succeeded", True, "COMPLETE"),
        ("failed", "failed", True, "FAIL"),
        ("retry_scheduled", "queued", True, "FAIL"),
        ("canceled", "canceled", True, "ABORT"),
        ("lost", "lost", True, "ABORT"),
        ("lease_expired", "queued", True, "ABORT"),
        ("handed_over", "queued", True, "ABORT"),
        ("canceled", "canceled", False, None),
        ("created", "queued", False, None),
        ("retried", "queued", False, None),
        ("cancel_requested", "running", True, None),
    ],
)
def test_only_a_run_that_began_starts_and_ends(kind: str, status: str, was_running: bool, told: str | None) -> None:
    seen = Transition(JOB, "t", datetime.now(UTC), kind, status, epoch=1, was_running=was_running)

    assert event_type(seen) == told


@pytest.mark.parametrize(
    ("source", "dataset"),
    [
        ("/data/f.csv", ("file", "/data/f.csv")),
        ("s3://bucket/a/b.csv", ("s3://bucket", "a/b.csv")),
        ("https://u:secret@h:8443/f.csv?sig=secret", ("https://h:8443", "/f.csv")),
        ("warehouse.public.t", ("jobs", "warehouse.public.t")),
        ("http://[broken?sig=secret", ("jobs", "http://[broken")),
    ],
)
def test_the_name_of_a_dataset_holds_no_secret(source: str, dataset: tuple[str, str]) -> None:
    assert dataset_of(source, "jobs") == dataset


def test_each_claim_is_a_run_of_its_own_with_the_same_id_every_time() -> None:
    assert run_id(JOB, 1) == run_id(JOB, 1) != run_id(JOB, 2)
