"""Outcomes as values, and what the settling statement is told of them."""

from __future__ import annotations

from uuid import uuid4

import pytest

from dataloader.domain.jobs import Lease
from dataloader.domain.outcomes import (
    Abandoned,
    Canceled,
    Failed,
    HandedOver,
    JobError,
    Outcome,
    Postponed,
    SettleKind,
    Settlement,
    Succeeded,
    settlement,
)

LEASE = Lease(uuid4(), 3)
ERROR = JobError("ValueError", "no", "Traceback …")
PROGRESS = {"done": 1}
K = SettleKind


@pytest.mark.parametrize(
    ("outcome", "written"),
    [
        (Succeeded(), Settlement(LEASE, K.SUCCEEDED, progress=PROGRESS)),
        (Succeeded({"rows": 1}), Settlement(LEASE, K.SUCCEEDED, result={"rows": 1}, progress=PROGRESS)),
        (Failed(ERROR, None), Settlement(LEASE, K.FAILED, error=ERROR.as_json(), progress=PROGRESS)),
        (Failed(ERROR, None, start_over=True), Settlement(LEASE, K.FAILED, error=ERROR.as_json(), progress=PROGRESS)),
        (Failed(ERROR, 30.0), Settlement(LEASE, K.RETRY, 30.0, ERROR.as_json(), progress=PROGRESS)),
        (
            Failed(ERROR, 0.0, start_over=True),
            Settlement(LEASE, K.RETRY, 0.0, ERROR.as_json(), progress=PROGRESS, start_over=True),
        ),
        (Canceled(), Settlement(LEASE, K.CANCELED, progress=PROGRESS)),
        (HandedOver("stop"), Settlement(LEASE, K.HANDED_OVER, progress=PROGRESS, data={"reason": "stop"})),
        (HandedOver("away", 5.0), Settlement(LEASE, K.HANDED_OVER, 5.0, progress=PROGRESS, data={"reason": "away"})),
        (Postponed("later", 9.0), Settlement(LEASE, K.RETRY_LATER, 9.0, progress=PROGRESS, data={"reason": "later"})),
        (Abandoned("lost"), None),
    ],
)
def test_each_outcome_is_written_in_its_own_way(outcome: Outcome, written: Settlement | None) -> None:
    assert settlement(LEASE, outcome, PROGRESS) == written


def test_an_error_is_kept_with_its_traceback() -> None:
    assert ERROR.as_json() == {"type": "ValueError", "message": "no", "traceback": "Traceback …"}
    assert JobError("E", "m").as_json()["traceback"] is None
