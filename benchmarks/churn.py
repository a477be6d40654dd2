"""Rounds of filling, draining and pruning by one long-lived worker, with statistics taken at bad moments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from enum import StrEnum
from itertools import cycle, islice

from benchmarks.drain import LONG_S, RATE, Filled, clear, ended, fill, resume
from benchmarks.pipelines import QUEUE
from benchmarks.processes import running
from benchmarks.scale import CONCURRENCY
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.recovery import RecoveryRepository

ROUNDS = 10


class Moment(StrEnum):
    """When a round takes statistics; whatever they say is wrong soon after."""

    EMPTY = "empty"
    HALF = "half drained"
    FULL = "full"


async def rates(settings: Settings, environment: dict[str, str], *, jobs: int) -> Sequence[float]:
    """Return the drain rate of every round, in jobs per second."""
    workers = json.dumps([{"queue": QUEUE, "concurrency": CONCURRENCY}])
    connection = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await clear(connection)
        async with running("worker", environment | {"WORKERS_JSON": workers}) as pid:
            while not await connection.fetchval("select exists (select from dl_workers where pid = $1)", pid):
                await asyncio.sleep(0.05)
            moments = islice(cycle(Moment), ROUNDS)
            return [await _round(settings, connection, moment, jobs) for moment in moments]
    finally:
        await connection.close()


async def _round(settings: Settings, connection: Connection, moment: Moment, jobs: int) -> float:
    await connection.execute("insert into dl_queues (queue, paused_at) values ($1, now())", QUEUE)
    if moment is Moment.EMPTY:
        await connection.execute("analyze dl_jobs")
    filled = await fill(connection, jobs)
    if moment is Moment.FULL:
        await connection.execute("analyze dl_jobs")
    await resume(connection, [])
    if moment is Moment.HALF:
        await _half_drained(connection, filled, jobs)
        await connection.execute("analyze dl_jobs")
    async with asyncio.timeout(LONG_S):
        await ended(connection, filled)
    rate = float(await connection.fetchval(RATE, filled.first_seq))
    await _prune(settings, connection)
    return rate


async def _half_drained(connection: Connection, filled: Filled, jobs: int) -> None:
    left = "select count(*) from dl_jobs where seq >= $1 and finished_at is null"
    while await connection.fetchval(left, filled.first_seq) > jobs / 2:
        await asyncio.sleep(0.02)


async def _prune(settings: Settings, connection: Connection) -> None:
    recovery = RecoveryRepository(settings.pg_schema)
    while await recovery.prune_jobs(connection, retention_days=0):
        pass
