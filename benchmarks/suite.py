"""The parts of a run, and what each adds to the report in a round."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console

from benchmarks import drain, ingest, keys, peers, raw, scale, snapshot
from benchmarks.processes import base_environment
from benchmarks.report import Report
from dataloader.config import Settings

WORKERS = '[{"queue": "latency", "concurrency": 4}]'
HANDOVER_GOAL_MS = 3.0


@dataclass(frozen=True, slots=True)
class Bench:
    """A run.

    Attributes:
        settings: Where the database is.
        jobs: Jobs of a plain drain.
        scale: Factor of the fixed sizes.
        console: Where progress is told.
    """

    settings: Settings
    jobs: int
    scale: float
    console: Console
    report: Report = field(default_factory=Report)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the measured processes."""
        return base_environment(self.settings)

    def sized(self, count: int) -> int:
        """Return a fixed size times the scale."""
        return max(round(count * self.scale), 10)


async def drain_round(bench: Bench) -> None:
    """Measure drain, bulk enqueue, and both by raw asyncpg."""
    limit = await raw.drain(bench.settings, jobs=bench.jobs, batch=500)
    ours = await drain.measure(bench.settings, bench.environment, jobs=bench.jobs, concurrency=1_000)
    fill = await raw.fill_rate(bench.settings, bench.jobs)
    other = "asyncpg, one connection, 500 at a time, with history"
    bench.report.add(_drain_name(bench.jobs), "jobs/s", (ours.rate, limit), other=other)
    bench.report.add("worker CPU per job", "µs", (ours.cpu_us, 20.0), other="the goal")
    bench.report.add(
        "bulk enqueue", "jobs/s", (ours.enqueue_rate, fill), other="the drain limit's own insert of bare rows"
    )


async def ingest_round(bench: Bench) -> None:
    """Measure triggers over HTTP and the time from call to start, and both by raw asyncpg."""
    calls, starts = bench.sized(5_000), bench.sized(200)
    async with ingest.service(bench.settings, _free_port(), WORKERS) as url:
        rates = await ingest.http_rate(url, calls), await ingest.raw_rate(bench.settings, calls)
        ours = await ingest.start_latency(bench.settings, url, starts)
    limit = await ingest.raw_start_latency(bench.settings, starts)
    other = "asyncpg inserting one row per call on 32 connections"
    bench.report.add("single triggers over HTTP, 32 clients", "req/s", rates, other=other)
    other = "asyncpg: insert, NOTIFY, claim"
    bench.report.add("call to start at rest, p50", "ms", (ours.p50_ms, limit.p50_ms), other=other)
    bench.report.add("call to start at rest, p99", "ms", (ours.p99_ms, limit.p99_ms), other=other)


async def peers_round(bench: Bench) -> None:
    """Measure the drain by every peer that is installed, and ours beside it."""
    for peer in peers.PEERS:
        if complaint := await peers.missing(peer):
            bench.console.print(complaint, markup=False, soft_wrap=True)
            continue
        jobs = max(round(bench.jobs * peer.share), 500)
        theirs = await peers.drain(bench.settings, bench.environment, peer, jobs=jobs)
        ours = await drain.measure(bench.settings, bench.environment, jobs=bench.jobs, concurrency=1_000)
        other = f"{peer.name}, {jobs:,} jobs: {peer.how}"
        bench.report.add(_drain_name(bench.jobs), "jobs/s", (ours.rate, theirs.rate), other=other)
        bench.report.add("worker CPU per job", "µs", (ours.cpu_us, theirs.cpu_us), other=peer.name)


async def scale_round(bench: Bench) -> None:
    """Measure the drain beside many rows of every kind, and without them."""
    for case in scale.CASES:
        rows = bench.sized(case.rows)
        rates = await scale.compare(bench.settings, bench.environment, case, jobs=bench.jobs, rows=rows)
        bench.report.add(f"drain beside {rows:,} {case.name}", "jobs/s", rates, other="the same without them")


async def snapshot_round(bench: Bench) -> None:
    """Measure the drain under an old snapshot, and with statistics of an empty table."""
    jobs, edge = bench.sized(500_000), bench.sized(50_000)
    rates = await snapshot.edges(bench.settings, bench.environment, jobs=jobs, edge=edge)
    name = f"last {edge:,} of {jobs:,} jobs under one old snapshot"
    bench.report.add(name, "jobs/s", rates, other=f"the first {edge:,}")
    jobs = bench.sized(200_000)
    gaps = await snapshot.claim_gaps(bench.settings, bench.environment, jobs=jobs)
    name = f"longest time between claims, {jobs:,} jobs, statistics of an empty table"
    bench.report.add(name, "ms", gaps, other="the median time between claims")


async def keys_round(bench: Bench) -> None:
    """Measure keyed jobs beside unkeyed ones, and how fast a key is handed over."""
    jobs, count = bench.sized(20_000), bench.sized(1_000)
    rates = await keys.compare(bench.settings, bench.environment, jobs=jobs, keys=count)
    bench.report.add(f"{jobs:,} jobs on {count:,} lock_keys", "jobs/s", rates, other="the same without keys")
    p50_ms = await keys.handover(bench.settings, bench.environment, jobs=count)
    name = f"hand-over of one lock_key, {count:,} jobs, p50"
    bench.report.add(name, "ms", (p50_ms, HANDOVER_GOAL_MS), other="the goal")


PARTS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "drain": drain_round,
    "ingest": ingest_round,
    "peers": peers_round,
    "scale": scale_round,
    "snapshot": snapshot_round,
    "keys": keys_round,
}
USUAL = ("drain", "ingest", "peers")


def _drain_name(jobs: int) -> str:
    return f"drain of {jobs:,} no-op jobs, one worker process"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
