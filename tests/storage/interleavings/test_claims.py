"""Who gets a job: claims against each other, against the end of a run, and against a cancel."""

from __future__ import annotations

import pytest

from dataloader.domain.outcomes import SettleKind
from tests.storage.interleavings.orders import Fate, Order, Sessions, cases, play
from tests.storage.interleavings.stage import (
    NOTHING,
    SUCCEEDS,
    cancels,
    claims,
    handed_over,
    run,
    run_before,
    run_beside,
    settles,
    waiting,
)

HANDS_OVER = settles(SettleKind.HANDED_OVER)
LOCKED = run_before({"lock_key": "l"})
HELD = ("running 1/0/1", "queued 0/0/0")

CLAIMS = {
    "the same job": Order(
        scenery=waiting(1),
        first=claims(),
        second=claims(),
        finds="1 under epoch 1",
        commit=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
        rollback=Fate(NOTHING, "1 under epoch 1", ("queued 0/0/0+",)),
        between=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
    ),
    "the first of two": Order(
        scenery=waiting(2),
        first=claims(1),
        second=claims(1),
        finds="1 under epoch 1",
        commit=Fate("2 under epoch 1", NOTHING, ("running 1/0/1", "running 1/0/1")),
        rollback=Fate("2 under epoch 1", "1 under epoch 1", ("queued 0/0/0+", "running 1/0/1")),
        between=Fate("2 under epoch 1", NOTHING, ("running 1/0/1", "running 1/0/1")),
    ),
    "a job that was handed over": Order(
        scenery=handed_over,
        first=claims(),
        second=claims(),
        finds="1 under epoch 2",
        commit=Fate(NOTHING, NOTHING, ("running 1/0/2",)),
        rollback=Fate(NOTHING, "1 under epoch 2", ("queued 0/0/1+",)),
        between=Fate(NOTHING, NOTHING, ("running 1/0/2",)),
    ),
}

ENDS = {
    "a success that frees a key is open when a claim comes": Order(
        scenery=LOCKED,
        first=SUCCEEDS,
        second=claims(),
        finds="succeeded",
        commit=Fate(NOTHING, NOTHING, ("succeeded 1/0/1", "queued 0/0/0")),
        rollback=Fate(NOTHING, NOTHING, HELD),
    ),
    "a hand-over is open when a claim comes": Order(
        scenery=run_beside(1),
        first=HANDS_OVER,
        second=claims(),
        finds="queued",
        commit=Fate("2 under epoch 1", "1 under epoch 2", ("queued 0/0/1+", "running 1/0/1")),
        rollback=Fate("2 under epoch 1", NOTHING, ("running 1/0/1", "running 1/0/1")),
        between=Fate("2 under epoch 1", "1 under epoch 2", ("queued 0/0/1+", "running 1/0/1")),
    ),
    "a claim of another job is open when a success comes": Order(
        scenery=run_beside(1),
        first=claims(),
        second=SUCCEEDS,
        finds="2 under epoch 1",
        commit=Fate("succeeded", NOTHING, ("succeeded 1/0/1", "running 1/0/1")),
        rollback=Fate("succeeded", NOTHING, ("succeeded 1/0/1", "queued 0/0/0+")),
        between=Fate("succeeded", NOTHING, ("succeeded 1/0/1", "running 1/0/1")),
    ),
    "a claim is open when the job's former run comes with its success": Order(
        scenery=handed_over,
        first=claims(),
        second=SUCCEEDS,
        finds="1 under epoch 2",
        commit=Fate(NOTHING, NOTHING, ("running 1/0/2",)),
        rollback=Fate(NOTHING, NOTHING, ("queued 0/0/1+",)),
        between=Fate(NOTHING, NOTHING, ("running 1/0/2",)),
    ),
}

CANCELS = {
    "a claim is open when a cancel comes": Order(
        scenery=waiting(1),
        first=claims(),
        second=cancels,
        finds="1 under epoch 1",
        waits=True,
        commit=Fate("running", "running", ("running 1/0/1!",)),
        rollback=Fate("queued", "canceled", ("canceled 0/0/0!",)),
    ),
    "a cancel is open when a claim comes": Order(
        scenery=waiting(1),
        first=cancels,
        second=claims(),
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("canceled 0/0/0!",)),
        rollback=Fate(NOTHING, "1 under epoch 1", ("queued 0/0/0+",)),
        between=Fate(NOTHING, NOTHING, ("canceled 0/0/0!",)),
    ),
    "a cancel of a run is open when its hand-over comes": Order(
        scenery=run(),
        first=cancels,
        second=HANDS_OVER,
        finds="running",
        commit=Fate(NOTHING, "canceled", ("running 1/0/1!",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, "canceled", ("running 1/0/1!",)),
    ),
    "a hand-over is open when a cancel comes": Order(
        scenery=run(),
        first=HANDS_OVER,
        second=cancels,
        finds="queued",
        waits=True,
        commit=Fate("queued", "canceled", ("canceled 0/0/1!",)),
        rollback=Fate("running", "running", ("running 1/0/1!",)),
    ),
}


@pytest.mark.parametrize(("order", "ending"), cases(CLAIMS))
async def test_two_claims_never_get_the_same_job(sessions: Sessions, order: Order, ending: str) -> None:
    await play(sessions, order, ending)


@pytest.mark.parametrize(("order", "ending"), cases(ENDS))
async def test_a_claim_beside_the_end_of_a_run_starts_nothing_too_early(
    sessions: Sessions, order: Order, ending: str
) -> None:
    await play(sessions, order, ending)


@pytest.mark.parametrize(("order", "ending"), cases(CANCELS))
async def test_a_canceled_job_does_not_start_and_one_that_was_asked_to_stop_does_not_return(
    sessions: Sessions, order: Order, ending: str
) -> None:
    await play(sessions, order, ending)
