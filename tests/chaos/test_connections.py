"""Connections that are cut: ended on the server, or lost with the answer to a statement that was executed."""

from __future__ import annotations

import asyncio
import itertools
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import charged, not_exactly_once, quantile, unrest
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.chaos.proxy import SOCKET, AnswerLosingProxy
from tests.workers.harness import enqueue, eventually, finished

ALWAYS_LOST = 3
"""An answer that chance does not spare: so few come in a short run that it may spare all."""

CUT_ALL = """
select coalesce(array_agg(application_name), '{}') from (
  select application_name, pg_terminate_backend(pid) from pg_stat_activity
   where datname = current_database() and pid <> pg_backend_pid()
     and application_name like any (array['dataloader %', 'dl/%'])) cut
"""
CUT_LISTENERS = """
select count(pg_terminate_backend(pid)) from pg_stat_activity
 where datname = current_database() and application_name = 'dataloader listener'
"""


async def test_cutting_every_connection_each_second_loses_and_charges_nothing(
    fleet: Fleet, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    rounds, jobs, chunks = size.pick(small=(4, 40, 15), full=(20, 200, 30))
    for _ in range(2):
        fleet.start(queues={"chaos": 8})
    for worker in fleet.started:
        await worker.works()
    load = {"chunks": chunks, "sleep_s": 0.04}
    ids = await enqueue(
        pg, settings, *[NewJob("chaos", "chaos.load", load, lock_key=f"k{n % 20}") for n in range(jobs)]
    )
    cut: Counter[str] = Counter()
    for _ in range(rounds):
        await asyncio.sleep(1)
        cut.update("chunk" if name.startswith("dl/") else name for name in await pg.fetchval(CUT_ALL))
    rows = await finished(pg, ids, within_s=120)

    wrong = await not_exactly_once(pg, [(i, chunk, n) for i in ids for chunk in range(chunks) for n in range(5)])
    handovers = sum(row["handovers"] for row in rows)
    report(rounds=rounds, cut=dict(cut), handovers=handovers, charged=charged(rows), wrong_rows=wrong)
    assert cut["chunk"], "no chunk was ever cut"
    assert not any(charged(rows).values())
    assert not any(wrong.values())
    assert {worker.exit_code for worker in fleet.started} == {None}
    await eventually(lambda: _quiet(pg))


async def test_pickup_stays_fast_while_listeners_are_cut(
    fleet: Fleet, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    worker = fleet.start(dl_poll_sec=30)
    await worker.works()
    waits: list[float] = []
    for _ in range(size.pick(small=6, full=40)):
        await pg.fetchval(CUT_LISTENERS)
        (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load", {"chunks": 0}))
        (row,) = await finished(pg, [job_id])
        waits.append((row["started_at"] - row["available_at"]).total_seconds())
    report(rounds=len(waits), pickup_ms={"p50": 1000 * quantile(waits, 0.5), "max": 1000 * max(waits)})
    assert max(waits) < 1.5


@pytest.mark.parametrize("purpose", ["control", "pipelines", "any"])
async def test_answers_that_are_lost_after_the_commit_cost_nothing(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    database: str,
    size: Size,
    chance: random.Random,
    purpose: str,
    report: Callable[..., None],
) -> None:
    jobs, chunks = size.pick(small=(30, 4), full=(300, 10))
    began_s = time.monotonic()
    share = 0.15 if purpose != "any" else 0.05
    answers = itertools.count()

    def loses(of: str, answer: bytes) -> bool:
        # What a connection is told when it is opened is no answer to a statement.
        executed = b"SELECT " in answer or b"COMMIT" in answer
        if not executed or purpose not in {of, "any"}:
            return False
        return next(answers) == ALWAYS_LOST or chance.random() < share

    async with _proxy(settings, loses) as (proxy, folder):
        worker = fleet.start(queues={"chaos": 4}, pg_host=str(folder))
        await worker.works()
        ids = await enqueue(
            pg, settings, *[NewJob("chaos", "chaos.load", {"chunks": chunks, "sleep_s": 0.004}) for _ in range(jobs)]
        )
        rows = await finished(pg, ids, within_s=size.pick(small=60, full=400))
        wrong = await not_exactly_once(pg, [(i, chunk, n) for i in ids for chunk in range(chunks) for n in range(5)])
        ends = await pg.fetchval("select count(*) from dl_job_events where kind = 'succeeded'")
        report(
            lost=dict(proxy.lost),
            took_s=time.monotonic() - began_s,
            handovers=sum(row["handovers"] for row in rows),
            claims=sum(row["epoch"] for row in rows),
            ends=ends,
            charged=charged(rows),
            wrong_rows=wrong,
        )
        assert sum(proxy.lost.values()), "no answer was lost"
        assert not any(charged(rows).values())
        assert not any(wrong.values())
        assert ends == jobs
        assert worker.exit_code is None, worker.log()
        await worker.kill()


async def test_a_worker_starts_although_its_first_answers_are_lost(
    fleet: Fleet, settings: Settings, report: Callable[..., None]
) -> None:
    def loses(of: str, _answer: bytes) -> bool:
        return proxy.lost[of] < 2

    async with _proxy(settings, loses) as (proxy, folder):
        worker = fleet.start(pg_host=str(folder))
        await worker.works()
        await worker.says("listener lost, polling meanwhile")
        report(lost=dict(proxy.lost))
        assert proxy.lost["catalogue"] == 2
        await worker.kill()


@asynccontextmanager
async def _proxy(
    settings: Settings, loses: Callable[[str, bytes], bool]
) -> AsyncIterator[tuple[AnswerLosingProxy, Path]]:
    if settings.dl_db_dsn is not None or settings.pg_host is None:
        pytest.skip("the proxy stands in front of a socket")
    proxy = AnswerLosingProxy(Path(settings.pg_host) / SOCKET, loses)
    with tempfile.TemporaryDirectory(prefix="dl-proxy-") as short:
        async with proxy.listening(Path(short)) as folder:
            yield proxy, folder


async def _quiet(pg: Any) -> bool:
    found = await unrest(pg)
    return not (found["advisory"] or found["idle_in_transaction"] or found["chunks"])
