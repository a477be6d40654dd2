"""The same drain by other queues on PostgreSQL, each in a worker process and a database of its own.

They are not installed here: `DL_BENCH_PEERS_PYTHON` names a Python that has them, this one unless it is set.
"""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.drain import LONG_S
from benchmarks.processes import cpu_seconds
from dataloader.config import Settings
from dataloader.storage.db import Connection, connect


@dataclass(frozen=True, slots=True)
class Peer:
    """Another queue.

    Attributes:
        how: Settings it runs with.
        module: Module of its worker.
        needs: Modules that the worker imports.
        share: Part of the jobs it gets; less than 1 for one that would take too long.
        table: Where its jobs are.
        unfinished: Asks whether there is anything left to do.
        took: Asks for the seconds from the first claim to the last end by the server's clock.
    """

    name: str
    how: str
    module: str
    needs: str
    share: float
    table: str
    unfinished: str
    took: str


PGQUEUER = Peer(
    name="PgQueuer 1.6",
    how="one process, asyncpg pool, uvloop, batches of 1,000, no limits, `pgq autovac`",
    module="benchmarks.pgqueuer_worker",
    needs="pgqueuer, asyncpg, uvloop, fastapi, uvicorn, httptools",
    share=1.0,
    table="pgqueuer",
    unfinished="select exists (select from pgqueuer)",
    took="select extract(epoch from max(created) filter (where status = 'successful') "
    "- min(created) filter (where status = 'picked')) from pgqueuer_log",
)
PROCRASTINATE = Peer(
    name="procrastinate 3",
    how="one process, psycopg pool of 10, uvloop, concurrency 10",
    module="benchmarks.procrastinate_worker",
    needs="procrastinate, psycopg, uvloop",
    share=0.1,
    table="procrastinate_jobs",
    unfinished="select exists (select from procrastinate_jobs where status in ('todo', 'doing'))",
    took="select extract(epoch from max(at) filter (where type = 'succeeded') "
    "- min(at) filter (where type = 'started')) from procrastinate_events",
)
PEERS = (PGQUEUER, PROCRASTINATE)


@dataclass(frozen=True, slots=True)
class PeerDrained:
    """What a drain showed: jobs per second, and the worker's CPU per job in microseconds, its start left out."""

    rate: float
    cpu_us: float


def python() -> str:
    """Return the Python that peers run under."""
    return os.environ.get("DL_BENCH_PEERS_PYTHON", sys.executable)


_asked: dict[str, bool] = {}


async def is_there(peer: Peer, say: Callable[[str], None]) -> bool:
    """Return whether a peer is installed; of one that is not, say once how it would be."""
    if peer.name not in _asked:
        complaint = await _missing(peer)
        _asked[peer.name] = complaint is None
        if complaint:
            say(complaint)
    return _asked[peer.name]


async def _missing(peer: Peer) -> str | None:
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(python(), "-c", f"import {peer.needs}", stderr=null)
    if await process.wait() == 0:
        return None
    return f"{peer.name} is left out: DL_BENCH_PEERS_PYTHON names no Python with {peer.needs} (`make bench` has one)"


async def drain(settings: Settings, environment: dict[str, str], peer: Peer, *, jobs: int) -> PeerDrained:
    """Let a peer enqueue jobs in a new database, and measure how it works them off."""
    async with (
        database(settings, peer) as connection,
        process(settings, environment, peer, (peer.module, str(jobs))) as worker,
        asyncio.timeout(LONG_S),
    ):
        await connection.execute("vacuum analyze")
        started_cpu_s = cpu_seconds(worker.pid)
        tell(worker, "go")
        while await connection.fetchval(peer.unfinished):
            await asyncio.sleep(0.05)
        cpu_s = cpu_seconds(worker.pid) - started_cpu_s
        return PeerDrained(jobs / float(await connection.fetchval(peer.took)), cpu_s / jobs * 1e6)


@asynccontextmanager
async def process(
    settings: Settings, environment: dict[str, str], peer: Peer, command: Sequence[str]
) -> AsyncIterator[Process]:
    """Run a module of a peer on its database for the time of the block, once it says that it is ready."""
    names = {"PGHOST": str(settings.pg_host), "PGUSER": settings.pg_user, "PGDATABASE": peer.table}
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        python(), "-m", *command, env=environment | names, stdin=pipe, stdout=pipe
    )
    assert child.stdout
    try:
        async with asyncio.timeout(LONG_S):
            assert await child.stdout.readline() == b"ready\n", f"{peer.name} did not start"
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


def tell(child: Process, line: str) -> None:
    """Send a line to a process."""
    assert child.stdin
    child.stdin.write(f"{line}\n".encode())


@asynccontextmanager
async def database(settings: Settings, peer: Peer) -> AsyncIterator[Connection]:
    """Create a database for the time of the block, and connect to it."""
    admin = await connect(settings, purpose="bench", command_timeout_s=LONG_S)
    try:
        await admin.execute(f"drop database if exists {peer.table} with (force)")
        await admin.execute(f"create database {peer.table}")
        its_own = settings.model_copy(update={"pg_database": peer.table})
        connection = await connect(its_own, purpose="bench", command_timeout_s=LONG_S)
        try:
            yield connection
        finally:
            await connection.close()
            await admin.execute(f"drop database {peer.table} with (force)")
    finally:
        await admin.close()
