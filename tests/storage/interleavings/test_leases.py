"""Who has a run: the reaper against heartbeat, settle and chunk."""

from __future__ import annotations

import pytest

from dataloader.domain.outcomes import SettleKind
from tests.storage.interleavings.orders import Fate, Order, Sessions, cases, play
from tests.storage.interleavings.stage import NOTHING, SUCCEEDS, beats, commits_a_chunk, reaps, run, seals, settles
from tests.storage.scene import expire

EXPIRED = run(expired=True)
KEYED = run({"lock_key": "l", "partition_key": "p"}, expired=True)
RETRIES = settles(SettleKind.RETRY)

ORDERS = {
    "a reap is open when a heartbeat comes": Order(
        scenery=EXPIRED,
        first=reaps,
        second=beats,
        finds="queued",
        commit=Fate("busy", "lost", ("queued 0/1/1+",)),
        rollback=Fate("busy", "ok", ("running 1/0/1",)),
        between=Fate("busy", "lost", ("queued 0/1/1+",)),
    ),
    "a heartbeat is open when a reap comes": Order(
        scenery=EXPIRED,
        first=beats,
        second=reaps,
        finds="ok",
        commit=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
    ),
    "a reap is open when another comes": Order(
        scenery=EXPIRED,
        first=reaps,
        second=reaps,
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("queued 0/1/1+",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("queued 0/1/1+",)),
    ),
    "a reap is open when a success comes": Order(
        scenery=EXPIRED,
        first=reaps,
        second=SUCCEEDS,
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("queued 0/1/1+",)),
        rollback=Fate(NOTHING, "succeeded", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("queued 0/1/1+",)),
    ),
    "a reap is open when a failure of a job with keys comes": Order(
        scenery=KEYED,
        first=reaps,
        second=RETRIES,
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("queued 0/1/1",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("queued 0/1/1",)),
    ),
    "a success is open when a reap comes": Order(
        scenery=EXPIRED,
        first=SUCCEEDS,
        second=reaps,
        finds="succeeded",
        commit=Fate(NOTHING, NOTHING, ("succeeded 1/0/1",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("succeeded 1/0/1",)),
    ),
    "a failure of a job with keys is open when a reap comes": Order(
        scenery=KEYED,
        first=RETRIES,
        second=reaps,
        finds="queued",
        commit=Fate(NOTHING, NOTHING, ("queued 1/0/1",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("queued 1/0/1",)),
    ),
    "a heartbeat is open when a success comes": Order(
        scenery=run(),
        first=beats,
        second=SUCCEEDS,
        finds="ok",
        commit=Fate(NOTHING, "succeeded", ("running 1/0/1",)),
        rollback=Fate(NOTHING, "succeeded", ("running 1/0/1",)),
        between=Fate(NOTHING, "succeeded", ("running 1/0/1",)),
    ),
    "a success is open when a heartbeat comes": Order(
        scenery=run(),
        first=SUCCEEDS,
        second=beats,
        finds="succeeded",
        commit=Fate("busy", "lost", ("succeeded 1/0/1",)),
        rollback=Fate("busy", "ok", ("running 1/0/1",)),
        between=Fate("busy", "lost", ("succeeded 1/0/1",)),
    ),
    "a reap is open when a chunk comes to its fence": Order(
        scenery=EXPIRED,
        first=reaps,
        second=commits_a_chunk,
        finds="queued",
        waits=True,
        commit=Fate("fenced off", "fenced off", ("queued 0/1/1+",)),
        rollback=Fate("sealed", "sealed", ("running 1/0/1",)),
        between=Fate("fenced off", "fenced off", ("queued 0/1/1+",)),
    ),
    "a fence is open when a reap comes": Order(
        scenery=EXPIRED,
        first=seals,
        second=reaps,
        finds="sealed",
        commit=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
        rollback=Fate(NOTHING, "queued", ("running 1/0/1",)),
        between=Fate(NOTHING, NOTHING, ("running 1/0/1",)),
    ),
    "a fence is open when a heartbeat comes": Order(
        scenery=EXPIRED,
        first=seals,
        second=beats,
        finds="sealed",
        commit=Fate("busy", "ok", ("running 1/0/1",)),
        rollback=Fate("busy", "ok", ("running 1/0/1",)),
        between=Fate("ok", "ok", ("running 1/0/1",)),
    ),
}


@pytest.mark.parametrize(("order", "ending"), cases(ORDERS))
async def test_a_run_has_one_owner(sessions: Sessions, order: Order, ending: str) -> None:
    await play(sessions, order, ending)


@pytest.mark.parametrize("place", ["before its rows", "before its fence", "after its fence", "after its commit"])
async def test_a_reap_at_any_place_of_a_chunk_leaves_no_rows_of_a_run_that_lost_its_lease(
    sessions: Sessions, place: str
) -> None:
    stage = await run()(sessions.watch)
    chunk = sessions.first.transaction()
    reaped = ""

    async def here(at: str) -> None:
        nonlocal reaped
        if at == place:
            reaped = await reaps(sessions.second, stage)

    await chunk.start()
    await expire(sessions.watch, *stage.job_ids)
    await here("before its rows")
    await sessions.first.execute("insert into target values (null)")
    await here("before its fence")
    sealed = await seals(sessions.first, stage) == "sealed"
    await here("after its fence")
    await (chunk.commit if sealed else chunk.rollback)()
    await here("after its commit")

    assert sealed is (reaped == NOTHING) is place.startswith("after")
    assert await sessions.watch.fetchval("select count(*) from target") == sealed
