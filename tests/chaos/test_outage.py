"""PostgreSQL itself goes away: stopped, killed or frozen for longer than a lease, with many running jobs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from dataloader.config import Settings, load_settings
from dataloader.domain.jobs import NewJob
from dataloader.embedded import EmbeddedServer
from dataloader.embedded.home import Home
from dataloader.storage.db import connect
from dataloader.storage.migrate import migrate
from tests.chaos.checks import charged, not_exactly_once
from tests.chaos.conftest import Size
from tests.chaos.processes import TABLES, Fleet
from tests.embedded.scene import backends, live_postmaster
from tests.workers.harness import enqueue, eventually, finished

JOBS = 50


@dataclass(frozen=True, slots=True)
class Stage:
    """A server of its own, and a worker process that uses it."""

    server: EmbeddedServer
    home: Home
    settings: Settings
    fleet: Fleet


@pytest.fixture
async def stage(tmp_path: Path, size: Size) -> AsyncIterator[Stage]:
    """Real timers in a full run. Commits are synchronous: without, a killed server forgets what it acknowledged."""
    bindir = os.environ.get("DL_TEST_BINDIR")
    server = EmbeddedServer(
        tmp_path / "data",
        bindir=Path(bindir) if bindir else None,
        settings={"fsync": "off"},
    )
    timers: dict[str, object] = size.pick(
        small={
            "dl_default_lease_ttl_sec": 3,
            "dl_heartbeat_sec": 0.5,
            "dl_reaper_period_sec": 0.5,
            "dl_poll_sec": 0.5,
            "dl_cancel_grace_sec": 1,
        },
        full={"dl_default_lease_ttl_sec": 60, "dl_heartbeat_sec": 10, "dl_reaper_period_sec": 10},
    )
    async with server:
        settings = load_settings(_env_file=None, **server.overrides() | timers)
        await migrate(settings)
        async with _session(settings) as pg:
            await pg.execute(TABLES)
        fleet = Fleet(settings, tmp_path)
        fleet.start(queues={"chaos": JOBS})
        await fleet.started[0].works()
        try:
            yield Stage(server, Home.at(tmp_path / "data"), settings, fleet)
        finally:
            await fleet.close()


async def test_running_jobs_outlive_a_server_that_is_stopped(
    stage: Stage, size: Size, report: Callable[..., None]
) -> None:
    outages_s = size.pick(small=[0.3, 3.0, 6.0], full=[5.0, 60.0, 120.0])
    for outage_s, how in zip(outages_s, [signal.SIGINT, signal.SIGKILL, signal.SIGINT], strict=True):
        await _live_through(
            stage,
            outage_s,
            how=f"stopped by {how.name}",
            report=report,
            begin=partial(_stop, stage, how),
            end=stage.server.ensure,
        )


async def test_running_jobs_outlive_a_server_that_is_frozen(
    stage: Stage, size: Size, report: Callable[..., None]
) -> None:
    for outage_s in size.pick(small=[5.0], full=[20.0, 90.0]):
        await _live_through(
            stage, outage_s, how="frozen", report=report, begin=partial(_freeze, stage), end=partial(_thaw, stage)
        )


async def _live_through(
    stage: Stage,
    outage_s: float,
    *,
    how: str,
    report: Callable[..., None],
    begin: Callable[[], Awaitable[object]],
    end: Callable[[], Awaitable[object]],
) -> None:
    chunks = 30
    load = {"chunks": chunks, "rows": 2, "sleep_s": 0.02, "pause_s": 0.1}
    async with _session(stage.settings) as pg:
        await pg.execute("truncate loaded")
        ids = await enqueue(pg, stage.settings, *[NewJob("chaos", "chaos.load", load) for _ in range(JOBS)])
        await eventually(lambda: _all_advanced(pg))
    await begin()
    began_s = time.monotonic()
    await asyncio.sleep(outage_s)
    await end()
    back_s = time.monotonic()
    async with _session(stage.settings) as pg:
        progress = await pg.fetchval("select count(*) from loaded")
        await eventually(lambda: _more_than(pg, progress), within_s=60)
        first_s = time.monotonic() - back_s
        rows = await finished(pg, ids, within_s=120)
        wrong = await not_exactly_once(pg, [(i, chunk, n) for i in ids for chunk in range(chunks) for n in range(2)])
    found = charged(rows)
    report(
        server=how,
        for_s=outage_s,
        lease_s=stage.settings.dl_default_lease_ttl_sec,
        really_away_s=back_s - began_s,
        first_new_chunk_after_s=first_s,
        all_done_after_s=time.monotonic() - back_s,
        handovers=dict(Counter(row["handovers"] for row in rows)),
        charged=found,
        wrong_rows=wrong,
    )
    assert not any(found.values())
    assert not any(wrong.values())
    assert "run does not stop" not in stage.fleet.started[0].log()
    assert stage.fleet.started[0].exit_code is None, stage.fleet.started[0].log()


async def _stop(stage: Stage, how: signal.Signals) -> None:
    process = live_postmaster(stage.home)
    process.send_signal(how)
    await asyncio.to_thread(process.wait, 20)


async def _freeze(stage: Stage) -> None:
    for process in (live_postmaster(stage.home), *backends(stage.home)):
        process.suspend()


async def _thaw(stage: Stage) -> None:
    for process in (*backends(stage.home), live_postmaster(stage.home)):
        process.resume()


async def _all_advanced(pg: Any) -> bool:
    return bool(
        await pg.fetchval("select count(*) = $1 from dl_jobs where status = 'running' and checkpoint is not null", JOBS)
    )


async def _more_than(pg: Any, count: int) -> bool:
    return bool(await pg.fetchval("select count(*) > $1 from loaded", count))


@asynccontextmanager
async def _session(settings: Settings) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await connect(settings, purpose="test", command_timeout_s=30)
    assert isinstance(connection, asyncpg.Connection)
    try:
        yield connection
    finally:
        await connection.close()
