"""Plays an order of two sessions' statements and compares what they found with what was promised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest
from _pytest.mark.structures import ParameterSet

from dataloader.storage.db import Connection
from tests.storage.interleavings import rules
from tests.storage.interleavings.stage import SUCCEEDS, Move, Scenery, Stage, completes, wind_up
from tests.storage.scene import PATIENCE_S, until

GATE = 707
_GATED = """
create schema gated;
create function gated.pass() returns void stable language plpgsql as
  $$ begin perform pg_catalog.pg_advisory_xact_lock_shared(707); end $$;
create function gated.equal(integer, integer) returns boolean stable language plpgsql as
  $$ begin perform gated.pass(); return $1 operator(pg_catalog.=) $2; end $$;
create function gated.unequal(integer, integer) returns boolean stable language plpgsql as
  $$ begin perform gated.pass(); return $1 operator(pg_catalog.<>) $2; end $$;
create function gated.pg_postmaster_start_time() returns timestamptz stable language plpgsql as
  $$ begin perform gated.pass(); return pg_catalog.pg_postmaster_start_time(); end $$;
create operator gated.= (leftarg = integer, rightarg = integer, function = gated.equal);
create operator gated.<> (leftarg = integer, rightarg = integer, function = gated.unequal);
"""


class Sessions(NamedTuple):
    """Two sessions that meet, and one that looks on."""

    watch: Connection
    first: Connection
    second: Connection


class Fate(NamedTuple):
    """How a meeting ends.

    Attributes:
        second: What the second session finds.
        again: What it finds when it comes again after the meeting.
        jobs: Status, attempt/losses/epoch of each job between the two, in order of acknowledgement; `!` marks one that
            was asked to stop, `+` one that is offered.
    """

    second: str
    again: str
    jobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The first session's statement lies in an open transaction while the second session comes.

    Attributes:
        scenery: What they find.
        first: What the first session does.
        second: What the second one does.
        finds: What the first session finds.
        waits: Whether the second one waits for the end of the first; otherwise it answers while that is open.
        commit: How it ends when the first one commits.
        rollback: How it ends when the first one rolls back.
        between: How it ends when the first one has committed between the second one's look at the rows and its lock.
    """

    scenery: Scenery
    first: Move
    second: Move
    finds: str
    waits: bool = False
    commit: Fate
    rollback: Fate
    between: Fate | None = None


def cases(orders: Mapping[str, Order]) -> list[ParameterSet]:
    """Return every order with every ending it has, as parameters of a test; a success is written in two ways."""
    both = {**orders, **_completed(orders)}
    return [
        pytest.param(order, ending, id=f"{name}: {ending}")
        for name, order in both.items()
        for ending in ("commit", "rollback", "between")
        if getattr(order, ending) is not None
    ]


def _completed(orders: Mapping[str, Order]) -> dict[str, Order]:
    def other(move: Move) -> Move:
        return completes if move is SUCCEEDS else move

    return {
        f"{name}, in a large batch": replace(order, first=other(order.first), second=other(order.second))
        for name, order in orders.items()
        if SUCCEEDS in {order.first, order.second}
    }


async def play(sessions: Sessions, order: Order, ending: str) -> None:
    """Play an order to one of its endings; afterwards the rules hold, and every job can still be brought to its end."""
    stage = await order.scenery(sessions.watch)
    meet = _meet_between if ending == "between" else _meet
    async with asyncio.timeout(2 * PATIENCE_S):
        found, second = await meet(sessions, order, stage, ending)
    jobs = await _jobs(sessions.watch)
    again = await order.second(sessions.second, stage)

    assert found == order.finds
    assert Fate(second, again, jobs) == getattr(order, ending)
    acknowledged = [*stage.job_ids, *(answer.job_id for answer in stage.answered)]
    await rules.check(sessions.watch, acknowledged)
    await wind_up(sessions.watch, stage)
    await rules.check(sessions.watch, acknowledged)
    assert await sessions.watch.fetchval("select count(*) from dl_jobs where finished_at is null") == 0


async def _meet(sessions: Sessions, order: Order, stage: Stage, ending: str) -> tuple[str, str]:
    transaction = sessions.first.transaction()
    await transaction.start()
    found = await order.first(sessions.first, stage)
    if ending == "rollback":
        stage.answered.clear()
    async with asyncio.TaskGroup() as group:
        second = group.create_task(order.second(sessions.second, stage))
        assert await _waits(sessions, second) is order.waits
        await (transaction.commit if ending == "commit" else transaction.rollback)()
    return found, second.result()


async def _meet_between(sessions: Sessions, order: Order, stage: Stage, _: str) -> tuple[str, str]:
    async with _gate(sessions), asyncio.TaskGroup() as group:
        second = group.create_task(order.second(sessions.second, stage))
        assert await _waits(sessions, second), "it did not come to the gate"
        found = await order.first(sessions.first, stage)
        await sessions.watch.execute("select pg_advisory_unlock($1)", GATE)
    return found, second.result()


@asynccontextmanager
async def _gate(sessions: Sessions) -> AsyncIterator[None]:
    """Stop the second session where it compares: its statement has its snapshot, and has locked no row yet.

    The statement stays as it is; only the search path gives its operators another meaning.
    """
    await sessions.watch.execute(_GATED)
    await sessions.watch.execute("select pg_advisory_lock($1)", GATE)
    await sessions.second.execute("set search_path = gated, public, pg_catalog")
    yield
    await sessions.second.execute("reset search_path")


async def _waits(sessions: Sessions, task: asyncio.Task[str]) -> bool:
    """Return whether a session's statement waits for a lock; False once it has been answered."""
    pid = sessions.second.get_server_pid()

    async def decided() -> str:
        if task.done():
            return "answered"
        waits = await sessions.watch.fetchval("select cardinality(pg_blocking_pids($1)) > 0", pid)
        return "waits" if waits else ""

    return await until(decided) == "waits"


async def _jobs(pg: Connection) -> tuple[str, ...]:
    rows = await pg.fetch("select * from dl_jobs order by seq")
    return tuple(
        f"{row['status']} {row['attempt']}/{row['losses']}/{row['epoch']}"
        + "!" * row["cancel_requested"]
        + "+" * row["ready"]
        for row in rows
    )
