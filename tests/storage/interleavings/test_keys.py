"""Whose turn it is: enqueuing under the same key, and promotion against what frees or adds something."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from tests.storage.interleavings.orders import Fate, Order, Sessions, cases, play
from tests.storage.interleavings.stage import (
    NOTHING,
    SUCCEEDS,
    behind,
    cancels,
    enqueues,
    one_behind,
    promotes,
    run_before,
)
from tests.storage.scene import blocked, ready

KEYS: tuple[Mapping[str, str], ...] = (
    {"lock_key": "l"},
    {"partition_key": "p"},
    {"lock_key": "l", "partition_key": "p"},
)
ONE, TWO = ("queued 0/0/0+",), ("queued 0/0/0+", "queued 0/0/0+")

ENQUEUES = {
    "the same request under the same key": Order(
        scenery=behind(),
        first=enqueues(idempotency_key="k"),
        second=enqueues(idempotency_key="k"),
        finds="created",
        waits=True,
        commit=Fate("replayed", "replayed", ONE),
        rollback=Fate("created", "replayed", ONE),
    ),
    "another request under the same key": Order(
        scenery=behind(),
        first=enqueues(idempotency_key="k"),
        second=enqueues(idempotency_key="k", args={"other": True}),
        finds="created",
        waits=True,
        commit=Fate("conflict", "conflict", ONE),
        rollback=Fate("created", "replayed", ONE),
    ),
    "the same partition": Order(
        scenery=behind({"partition_key": "p"}),
        first=enqueues(partition_key="p"),
        second=enqueues(partition_key="p"),
        finds="created",
        waits=True,
        commit=Fate("created", "created", ("queued 0/0/0", "queued 0/0/0")),
        rollback=Fate("created", "created", ("queued 0/0/0",)),
    ),
    "the same lock": Order(
        scenery=behind({"lock_key": "l"}),
        first=enqueues(lock_key="l"),
        second=enqueues(lock_key="l"),
        finds="created",
        commit=Fate("created", "created", ("queued 0/0/0", "queued 0/0/0")),
        rollback=Fate("created", "created", ("queued 0/0/0",)),
    ),
    "nothing in common": Order(
        scenery=behind(),
        first=enqueues(idempotency_key="k"),
        second=enqueues(),
        finds="created",
        commit=Fate("created", "created", TWO),
        rollback=Fate("created", "created", ONE),
    ),
}


def freed(keys: Mapping[str, str]) -> dict[str, Order]:
    """Return the orders of a promotion and the end of the run that holds its keys."""
    scenery = run_before(keys)
    held, free = ("running 1/0/1", "queued 0/0/0"), ("succeeded 1/0/1", "queued 0/0/0")
    return {
        f"{' and '.join(keys)}: a success is open when a promotion comes": Order(
            scenery=scenery,
            first=SUCCEEDS,
            second=promotes,
            finds="succeeded",
            commit=Fate(NOTHING, "1 offered", free),
            rollback=Fate(NOTHING, NOTHING, held),
        ),
        f"{' and '.join(keys)}: a promotion is open when a success comes": Order(
            scenery=scenery,
            first=promotes,
            second=SUCCEEDS,
            finds=NOTHING,
            commit=Fate("succeeded", NOTHING, free),
            rollback=Fate("succeeded", NOTHING, free),
        ),
    }


def added(keys: Mapping[str, str]) -> dict[str, Order]:
    """Return the orders of a promotion and the enqueuing of a job behind its keys."""
    return {
        f"{' and '.join(keys)}: an enqueuing is open when a promotion comes": Order(
            scenery=behind(keys),
            first=enqueues(**keys),
            second=promotes,
            finds="created",
            commit=Fate(NOTHING, "1 offered", ("queued 0/0/0",)),
            rollback=Fate(NOTHING, NOTHING, ()),
        ),
        f"{' and '.join(keys)}: a promotion is open when an enqueuing comes": Order(
            scenery=behind(keys),
            first=promotes,
            second=enqueues(**keys),
            finds=NOTHING,
            commit=Fate("created", "created", ("queued 0/0/0",)),
            rollback=Fate("created", "created", ("queued 0/0/0",)),
        ),
    }


CANCELS = {
    "a cancel is open when a promotion comes": Order(
        scenery=one_behind({"lock_key": "l"}),
        first=cancels,
        second=promotes,
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("canceled 0/0/0!",)),
        rollback=Fate(NOTHING, "1 offered", ("queued 0/0/0",)),
        between=Fate(NOTHING, NOTHING, ("canceled 0/0/0!",)),
    ),
    "a promotion is open when a cancel comes": Order(
        scenery=one_behind({"lock_key": "l"}),
        first=promotes,
        second=cancels,
        finds="1 offered",
        waits=True,
        commit=Fate("queued", "canceled", ("canceled 0/0/0!",)),
        rollback=Fate("queued", "canceled", ("canceled 0/0/0!",)),
    ),
}
PROMOTIONS = CANCELS | {name: order for keys in KEYS for name, order in (freed(keys) | added(keys)).items()}


@pytest.mark.parametrize(("order", "ending"), cases(ENQUEUES))
async def test_a_key_has_one_job_and_a_partition_one_order(sessions: Sessions, order: Order, ending: str) -> None:
    await play(sessions, order, ending)


@pytest.mark.parametrize(("order", "ending"), cases(PROMOTIONS))
async def test_a_turn_is_given_once_and_never_missed(sessions: Sessions, order: Order, ending: str) -> None:
    await play(sessions, order, ending)


@pytest.mark.parametrize("keys", KEYS, ids=" and ".join)
@pytest.mark.parametrize("commit", [True, False], ids=["commit", "rollback"])
@pytest.mark.parametrize("when", ["before it came", "while it waited"])
@pytest.mark.parametrize("news", ["a success", "an enqueuing"])
async def test_a_promotion_that_waited_for_one_which_looked_too_early_sees_the_news(
    sessions: Sessions, keys: Mapping[str, str], *, news: str, when: str, commit: bool
) -> None:
    """Its snapshot must be younger than its lock, or the job that the other one has missed waits for the sweep."""
    stage = await (run_before if news == "a success" else behind)(keys)(sessions.watch)
    happens = SUCCEEDS if news == "a success" else enqueues(**keys)
    early = sessions.first.transaction()
    await early.start()
    assert await promotes(sessions.first, stage) == NOTHING
    if when == "before it came":
        await happens(sessions.watch, stage)
    async with asyncio.TaskGroup() as group:
        late = group.create_task(promotes(sessions.second, stage))
        await blocked(sessions.watch, sessions.second)
        if when == "while it waited":
            await happens(sessions.watch, stage)
        await (early.commit if commit else early.rollback)()

    assert late.result() == "1 offered"
    assert await ready(sessions.watch) == [*stage.job_ids[1:], *(answer.job_id for answer in stage.answered)]
