"""The parts of a run, and what each adds to the report in a round."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from benchmarks import (
    bare_api,
    churn,
    columnar,
    designs,
    dlt_ingest,
    drain,
    durations,
    ingest,
    keys,
    latency,
    loads,
    many,
    peer_latency,
    peers,
    raw,
    scale,
    snapshot,
)
from benchmarks.processes import base_environment
from benchmarks.report import Report, Topic
from dataloader.config import Settings

HANDOVER_GOAL_MS = 3.0
DRAIN = Topic("Drain of no-op jobs, one worker process", "jobs/s", "more is better")
_LATENCY_NOTE = "median, pale: 99th percentile; less is better"


@dataclass(frozen=True, slots=True)
class Bench:
    """A run.

    Attributes:
        settings: Where the database is.
        jobs: Jobs of a plain drain.
        scale: Factor of the fixed sizes.
        log: Of the server.
        folder: For files that are loaded.
        console: Where progress is told.
    """

    settings: Settings
    jobs: int
    scale: float
    log: Path
    folder: Path
    console: Console
    report: Report = field(default_factory=Report)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the measured processes."""
        return base_environment(self.settings)

    def say(self, text: str) -> None:
        """Tell whoever watches."""
        self.console.print(text, markup=False, soft_wrap=True)

    def sized(self, count: int) -> int:
        """Return a fixed size times the scale."""
        return max(round(count * self.scale), 10)


async def drain_round(bench: Bench) -> None:
    """Measure drain by one process and by two, bulk enqueue, and what raw asyncpg makes of them."""
    limit = await raw.drain(bench.settings, jobs=bench.jobs, batch=500)
    ours = await drain.measure(bench.settings, bench.environment, jobs=bench.jobs, concurrency=2_000)
    fill = await raw.fill_rate(bench.settings, bench.jobs)
    other = "asyncpg, one connection, 500 at a time, with history"
    bench.report.add(_drain_name(bench.jobs), "jobs/s", (ours.rate, limit), other=other)
    bench.report.draw(DRAIN, "Dataloader", ours.rate)
    bench.report.draw(DRAIN, "bare asyncpg, no service", limit)
    bench.report.add("worker CPU per job", "µs", (ours.cpu_us, 20.0), other="the goal")
    bench.report.add(
        "bulk enqueue", "jobs/s", (ours.enqueue_rate, fill), other="the drain limit's own insert of bare rows"
    )


async def pair_round(bench: Bench) -> None:
    """Measure the drain by two worker processes on one queue beside that by one."""
    jobs = bench.sized(50_000)
    one = await drain.measure(bench.settings, bench.environment, jobs=jobs, concurrency=2_000)
    two = await drain.measure(bench.settings, bench.environment, jobs=jobs, concurrency=2_000, processes=2)
    bench.report.add(f"drain of {jobs:,} jobs, two processes", "jobs/s", (two.rate, one.rate), other="one process")
    bench.report.add("cores in use meanwhile", "%", (two.busy_share * 100, 90.0), other="the goal")
    bench.report.add("jobs of the process that had fewer", "%", (two.least_share * 100, 50.0), other="an even share")


async def ingest_round(bench: Bench) -> None:
    """Measure triggers over HTTP, one by one and in bulk."""
    calls, jobs = bench.sized(5_000), bench.sized(10_000)
    async with ingest.service(bench.settings) as url:
        bare = await ingest.single_rate(f"{url}{bare_api.PATH}", calls)
        single = await ingest.single_rate(f"{url}{ingest.TRIGGER}", calls)
        bulk = await ingest.bulk_rate(f"{url}{ingest.BULK}", jobs)
    limit = await ingest.raw_bulk_rate(bench.settings, jobs)
    other = "the same server and body, no database"
    bench.report.add(f"single triggers, {ingest.CLIENTS} connections", "req/s", (single, bare), other=other)
    other = "asyncpg, the same rows and a line of history of each, one statement"
    bench.report.add(f"bulk trigger of {jobs:,} jobs", "jobs/s", (bulk, limit), other=other)


async def peers_round(bench: Bench) -> None:
    """Measure the drain by every peer that is installed, and ours beside it."""
    for peer in peers.PEERS:
        if not await peers.is_there(peer, bench.say):
            continue
        jobs = max(round(bench.jobs * peer.share), 500)
        theirs = await peers.drain(bench.settings, bench.environment, peer, jobs=jobs)
        ours = await drain.measure(bench.settings, bench.environment, jobs=bench.jobs, concurrency=2_000)
        other = f"{peer.name}, {jobs:,} jobs: {peer.how}"
        bench.report.add(_drain_name(bench.jobs), "jobs/s", (ours.rate, theirs.rate), other=other)
        bench.report.add("worker CPU per job", "µs", (ours.cpu_us, theirs.cpu_us), other=peer.name)
        bench.report.draw(DRAIN, "Dataloader", ours.rate)
        bench.report.draw(DRAIN, peer.name, theirs.rate)


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


async def designs_round(bench: Bench) -> None:
    """Measure small queues of several designs under an old snapshot."""
    jobs, edge = bench.sized(500_000), bench.sized(50_000)
    for design in designs.DESIGNS:
        rates = await designs.edges(bench.settings, design, jobs=jobs, edge=edge)
        name = f"{design.name}: last {edge:,} of {jobs:,} jobs"
        bench.report.add(name, "jobs/s", rates, other=f"the first {edge:,}")


async def keys_round(bench: Bench) -> None:
    """Measure keyed jobs beside unkeyed ones, and how fast a key is handed over."""
    jobs, count = bench.sized(20_000), bench.sized(1_000)
    rates = await keys.compare(bench.settings, bench.environment, jobs=jobs, keys=count)
    bench.report.add(f"{jobs:,} jobs on {count:,} lock_keys", "jobs/s", rates, other="the same without keys")
    p50_ms = await keys.handover(bench.settings, bench.environment, jobs=count)
    name = f"hand-over of one lock_key, {count:,} jobs, p50"
    bench.report.add(name, "ms", (p50_ms, HANDOVER_GOAL_MS), other="the goal")


async def latency_round(bench: Bench) -> None:
    """Measure the time from call to start at rest, ours and the peers' beginning and ending alike."""
    count = bench.sized(300)
    for ours, theirs in peer_latency.CONTESTS:
        if theirs.peer and not await peers.is_there(theirs.peer, bench.say):
            continue
        one = await latency.measure(bench.settings, ours, count=count)
        other = await latency.measure(bench.settings, theirs, count=count)
        topic = Topic(f"From the call to the start, {ours.name}", "ms", _LATENCY_NOTE)
        bench.report.add(f"{ours.name}, p50", "ms", (one.p50_ms, other.p50_ms), other=theirs.name)
        bench.report.add(f"{ours.name}, p99", "ms", (one.p99_ms, other.p99_ms), other=theirs.name)
        bench.report.draw(topic, "Dataloader", one.p50_ms, one.p99_ms)
        bench.report.draw(topic, theirs.name, other.p50_ms, other.p99_ms)


async def churn_round(bench: Bench) -> None:
    """Measure rounds of fill, drain and prune by one worker, and claims with statistics of an empty table."""
    rates = await churn.rates(bench.settings, bench.environment, jobs=bench.jobs)
    name = f"slowest of {len(rates)} rounds of {bench.jobs:,} jobs: fill, drain, prune"
    bench.report.add(name, "jobs/s", (min(rates), statistics.median(rates)), other="the median round")
    bench.console.print(f"churn, jobs/s: {', '.join(f'{rate:,.0f}' for rate in rates)}", markup=False, soft_wrap=True)
    jobs = bench.sized(200_000)
    async with durations.of_claims(bench.settings, bench.log) as claims:
        await snapshot.claim_gaps(bench.settings, bench.environment, jobs=jobs)
    name = f"longest claim, {jobs:,} jobs, statistics of an empty table"
    bench.report.add(name, "ms", (claims.longest_ms, claims.median_ms), other="the median claim")


async def many_round(bench: Bench) -> None:
    """Measure what sleeping jobs cost a process, and how soon new ones start beside them."""
    figures = await many.measure(bench.settings, jobs=bench.sized(10_000), seconds=max(60 * bench.scale, 12))
    beside = f"{figures.jobs:,} running jobs"
    for name, unit, ours, other, what in (
        ("memory per running job", "KB", figures.memory_kb, 25.0, "the goal"),
        ("statements per heartbeat", "", figures.statements, 1.0, "the goal"),
        ("heartbeats in the worker", "% of a core", figures.busy.thread_share * 100, 5.0, "the goal"),
        ("heartbeats in the server", "% of a core", figures.busy.server_share * 100, 5.0, "the goal"),
        (
            "the whole worker",
            "% of a core",
            figures.busy.cpu_share * 100,
            figures.idle.cpu_share * 100,
            "the same idle",
        ),
        ("lateness of the loop, p50", "ms", figures.busy.lag.p50_ms, figures.idle.lag.p50_ms, "the same idle"),
        ("lateness of the loop, p99", "ms", figures.busy.lag.p99_ms, figures.idle.lag.p99_ms, "the same idle"),
        ("start of a new job, p50", "ms", figures.busy.start.p50_ms, figures.idle.start.p50_ms, "the same idle"),
        ("start of a new job, p99", "ms", figures.busy.start.p99_ms, figures.idle.start.p99_ms, "the same idle"),
        ("start of a new job, p99", "ms", figures.busy.start.p99_ms, 20.0, "the goal"),
    ):
        bench.report.add(f"{beside}: {name}", unit, (ours, other), other=what)


async def files_round(bench: Bench) -> None:
    """Measure loads of one file beside what psql makes of it."""
    rows = bench.sized(16_000_000)
    async with loads.staged(bench.settings, bench.folder, rows=rows) as stage:
        megabytes = stage.source.stat().st_size / 1e6
        await stage.empty("a", "b")
        psql_s = await stage.psql(f"\\copy a from '{stage.source}' (format csv, header)")
        await stage.empty("a")
        ours = await stage.load("load.file", {"source": str(stage.source), "table": "b"})
        name = f"load.file, {rows:,} rows of CSV ({megabytes:,.0f} MB), append"
        bench.report.add(name, "rows/s", (rows / ours.seconds, rows / psql_s), other="psql, \\copy")
        bench.report.add(f"{name}: memory above the idle worker", "MB", (ours.memory_mb, 64.0), other="the goal")
        await stage.empty("b")
        how = {"source": str(stage.source), "table": "b", "parallel": 2}
        both = await stage.load("load.file", how)
        other = "psql, \\copy"
        bench.report.add(f"{name}, parallel 2", "rows/s", (rows / both.seconds, rows / psql_s), other=other)
        idle_ms = await stage.lag_ms()
        await stage.empty("b")
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(stage.load("load.file", {"source": str(stage.source), "table": "b"}))
            busy_ms = await stage.lag_ms()
            await loading
        bench.report.add(f"{name}: lateness of the loop, p99.9", "ms", (busy_ms, idle_ms), other="the same idle")


async def merges_round(bench: Bench) -> None:
    """Measure a merge beside the same statements by hand."""
    rows = bench.sized(2_000_000)
    how = {"table": "b", "mode": "merge", "primary_key": ["id"]}
    async with loads.staged(bench.settings, bench.folder, rows=rows) as stage:
        await stage.empty("a", "b", key=True)
        psql_s = await stage.psql_merge("a")
        ours = await stage.load("load.file", how | {"source": str(stage.source)})
        name = f"load.file, {rows:,} rows of CSV, merge into an empty table"
        bench.report.add(name, "rows/s", (rows / ours.seconds, rows / psql_s), other="the same statements in psql")


async def tables_round(bench: Bench) -> None:
    """Measure a load from a table beside a pipe of two psql."""
    rows = bench.sized(2_000_000)
    async with loads.staged(bench.settings, bench.folder, rows=rows) as stage:
        await stage.empty("src", "a", "b", key=True)
        await stage.psql(f"\\copy src from '{stage.source}' (format csv, header)")
        await stage.connection.execute("vacuum analyze src")
        psql_s = await stage.psql("copy src to stdout", "copy a from stdin")
        await stage.empty("a")
        ours = await stage.load("load.sql", {"connection": "here", "source_table": "src", "table": "b"})
        name = f"load.sql, {rows:,} rows"
        bench.report.add(name, "rows/s", (rows / ours.seconds, rows / psql_s), other="psql copy out into psql copy in")


async def parquet_round(bench: Bench) -> None:
    """Measure loads of Parquet beside ADBC's driver."""
    rows = bench.sized(2_000_000)
    async with loads.staged(bench.settings, bench.folder, rows=bench.sized(1_000)) as stage:
        for exact in (False, True):
            path = await columnar.source(stage, rows, exact=exact)
            load = {"source": str(path), "table": "b"}
            await columnar.empty(stage, "a", "b", exact=exact)
            adbc_s = await columnar.ingest(stage.dsn, path, "a")
            if adbc_s is None:
                bench.say("ADBC is left out: DL_BENCH_PEERS_PYTHON names no Python that has it (`make bench` has one)")
                return
            await columnar.empty(stage, "a", exact=exact)
            ours = await stage.load("load.file", load)
            name = f"load.file, {rows:,} rows of Parquet, {'numeric' if exact else 'double precision'}"
            bench.report.add(name, "rows/s", (rows / ours.seconds, rows / adbc_s), other="ADBC, adbc_ingest")
            await columnar.empty(stage, "b", exact=exact)
            both = await stage.load("load.file", load | {"parallel": 2})
            bench.report.add(
                f"{name}, parallel 2", "rows/s", (rows / both.seconds, rows / adbc_s), other="ADBC, adbc_ingest"
            )
        idle_ms = await stage.lag_ms()
        await columnar.empty(stage, "b", exact=exact)
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(stage.load("load.file", load))
            busy_ms = await stage.lag_ms()
            await loading
        bench.report.add(f"{name}: lateness of the loop, p99.9", "ms", (busy_ms, idle_ms), other="the same idle")


async def dlt_round(bench: Bench) -> None:
    """Measure a load of one file beside what dlt makes of it."""
    rows = bench.sized(1_000_000)
    async with loads.staged(bench.settings, bench.folder, rows=rows) as stage:
        others_s = {how: await stage.dlt("prices", how) for how in (dlt_ingest.FASTEST, dlt_ingest.AS_IT_COMES)}
        await stage.connection.execute("drop schema if exists dlt_bench cascade; drop table if exists b; checkpoint")
        ours = await stage.load("load.file", {"source": str(stage.source), "table": "b"})
        name = f"load.file, {rows:,} rows of CSV into a table that it creates"
        for how, seconds in others_s.items():
            if seconds is None:
                bench.say("dlt is left out: DL_BENCH_PEERS_PYTHON names no Python that has it (`make bench` has one)")
                return
            bench.report.add(name, "rows/s", (rows / ours.seconds, rows / seconds), other=f"dlt, Arrow; {how}")


async def unloads_round(bench: Bench) -> None:
    """Measure a table into files beside psql."""
    rows = bench.sized(5_000_000)
    async with loads.staged(bench.settings, bench.folder, rows=rows) as stage:
        await stage.empty("a", key=True)
        await stage.psql(f"\\copy a from '{stage.source}' (format csv, header)")
        await stage.connection.execute("vacuum analyze a")
        await stage.connection.execute("checkpoint")
        plain = bench.folder / "plain.csv"
        psql_s = await stage.psql(f"\\copy (select * from a order by id) to '{plain}' (format csv, header)")
        how = {"table": "a", "target": str(bench.folder / "unloaded"), "overwrite": True}
        ours = await stage.load("unload.table", how)
        name = f"unload.table, {rows:,} rows to CSV in parts"
        bench.report.add(name, "rows/s", (rows / ours.seconds, rows / psql_s), other="psql, \\copy to one file")


PARTS: Mapping[str, Callable[[Bench], Awaitable[None]]] = {
    "drain": drain_round,
    "pair": pair_round,
    "ingest": ingest_round,
    "latency": latency_round,
    "many": many_round,
    "churn": churn_round,
    "peers": peers_round,
    "scale": scale_round,
    "snapshot": snapshot_round,
    "designs": designs_round,
    "keys": keys_round,
    "files": files_round,
    "merges": merges_round,
    "parquet": parquet_round,
    "tables": tables_round,
    "dlt": dlt_round,
    "unloads": unloads_round,
}
TITLES: Mapping[str, str] = {
    "drain": "Drain",
    "pair": "Two worker processes",
    "ingest": "Ingest",
    "latency": "From the call to the start, at rest",
    "many": "Many at once",
    "churn": "Churn",
    "peers": "Drain beside other queues",
    "scale": "Many rows beside",
    "snapshot": "An old snapshot, stale statistics",
    "designs": "Designs of a queue under an old snapshot",
    "keys": "Keys",
    "files": "Loading files",
    "merges": "Merging files",
    "parquet": "Loading Parquet",
    "tables": "Loading from another database",
    "dlt": "Loading files beside dlt",
    "unloads": "Unloading into files",
}
USUAL = ("drain", "pair", "ingest", "latency", "peers")


def _drain_name(jobs: int) -> str:
    return f"drain of {jobs:,} no-op jobs, one worker process"
