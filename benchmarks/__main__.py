"""`python -m benchmarks`: everything, several rounds, ours and the limit in turn."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import socket
import tempfile
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks import drain, ingest, raw
from benchmarks.processes import base_environment
from benchmarks.report import Pair, table
from dataloader.config import Settings, load_settings
from dataloader.embedded import EmbeddedServer
from dataloader.storage.db import connect
from dataloader.storage.migrate import migrate

WORKERS = '[{"queue": "latency", "concurrency": 4}]'


async def run(settings: Settings, *, jobs: int, rounds: int, console: Console) -> list[Pair]:
    """Measure and return the pairs."""
    pairs = {
        "drain": Pair(
            f"drain of {jobs:,} no-op jobs, one worker process",
            "jobs/s",
            "asyncpg, one connection, 500 at a time, with history",
            [],
        ),
        "bulk": Pair("bulk enqueue", "jobs/s", "the drain limit's own insert of bare rows", []),
        "http": Pair(
            "single triggers over HTTP, 32 clients", "req/s", "asyncpg inserting one row per call on 32 connections", []
        ),
        "p50": Pair("call to start at rest, p50", "ms", "asyncpg: insert, NOTIFY, claim", []),
        "p99": Pair("call to start at rest, p99", "ms", "asyncpg: insert, NOTIFY, claim", []),
    }
    for _ in track(range(rounds), description="rounds", console=console):
        limit = await raw.drain(settings, jobs=jobs, batch=500)
        ours = await drain.measure(settings, base_environment(settings), jobs=jobs, concurrency=500)
        pairs["drain"].rounds.append((ours.rate, limit))
        pairs["bulk"].rounds.append((ours.enqueue_rate, await raw_fill_rate(settings, jobs)))
        async with ingest.service(settings, _free_port(), WORKERS) as url:
            pairs["http"].rounds.append((await ingest.http_rate(url, 5_000), await ingest.raw_rate(settings, 5_000)))
            start = await ingest.start_latency(settings, url, 200)
        raw_start = await ingest.raw_start_latency(settings, 200)
        pairs["p50"].rounds.append((start.p50_ms, raw_start.p50_ms))
        pairs["p99"].rounds.append((start.p99_ms, raw_start.p99_ms))
        console.print(f"worker CPU per job: {ours.cpu_us:.0f} us")
    return list(pairs.values())


async def raw_fill_rate(settings: Settings, jobs: int) -> float:
    """Return rows per second of one bare insert from generate_series."""
    import time  # noqa: PLC0415

    connection = await connect(settings, purpose="bench raw", command_timeout_s=120)
    try:
        await connection.execute("truncate raw_jobs, raw_events")
        started_s = time.perf_counter()
        await connection.execute(raw.FILL, jobs)
        return jobs / (time.perf_counter() - started_s)
    finally:
        await connection.close()


async def main() -> None:
    """Parse the command line, measure on an embedded server with fsync on, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000, help="jobs to drain (20000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds; medians are printed (5)")
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="dataloader-bench-") as folder:
        async with EmbeddedServer(Path(folder) / "data") as server:
            settings = load_settings(_env_file=None, **server.overrides())
            await migrate(settings)
            pairs = await run(settings, jobs=arguments.jobs, rounds=arguments.rounds, console=console)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    console.print(f"\n{machine}, {arguments.rounds} rounds\n")
    console.print(table(pairs), markup=False, soft_wrap=True)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


asyncio.run(main())
