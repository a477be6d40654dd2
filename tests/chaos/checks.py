"""Invariants, read from what is left. Each can fail: `test_checks.py` shows it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import asyncpg


@dataclass(frozen=True, slots=True)
class Span:
    """A stay under a key; `left_at` is None when the run was killed in it."""

    key: str
    entered_at: datetime
    left_at: datetime | None


def overlaps(spans: Iterable[Span]) -> list[tuple[Span, Span]]:
    """Return neighbours of one key that were there at the same time."""
    by_key: defaultdict[str, list[Span]] = defaultdict(list)
    for span in sorted(spans, key=lambda span: span.entered_at):
        by_key[span.key].append(span)
    return [
        (before, after)
        for stays in by_key.values()
        for before, after in pairwise(stays)
        if before.left_at is None or after.entered_at < before.left_at
    ]


@dataclass(frozen=True, slots=True)
class Ordered:
    """A job of a partition as its producer and the service saw it; the times are of the same clock."""

    partition: str
    sent_at: float
    acknowledged_at: float
    started_at: float


def out_of_order(jobs: Iterable[Ordered]) -> int:
    """Count pairs of neighbours in start order of which the later one had been acknowledged before the other was sent.

    With every job compared to the latest `sent_at` among those that started before it, no pair is missed.
    """
    wrong = 0
    latest_sent: defaultdict[str, float] = defaultdict(lambda: float("-inf"))
    for job in sorted(jobs, key=lambda job: job.started_at):
        wrong += job.acknowledged_at < latest_sent[job.partition]
        latest_sent[job.partition] = max(latest_sent[job.partition], job.sent_at)
    return wrong


async def not_exactly_once(pg: Any, expected: Iterable[tuple[object, int, int]]) -> dict[str, int]:
    """Compare `loaded` with the (job, chunk, n) it should hold; all zeros is right."""
    rows = Counter(
        {
            (r["job_id"], r["chunk"], r["n"]): r["c"]
            for r in await pg.fetch("select job_id, chunk, n, count(*) as c from loaded group by 1, 2, 3")
        }
    )
    wanted = set(expected)
    return {
        "missing": len(wanted - rows.keys()),
        "twice": sum(1 for count in rows.values() if count > 1),
        "strange": len(rows.keys() - wanted),
    }


def charged(rows: Iterable[asyncpg.Record]) -> dict[str, int]:
    """Count what should not have been charged."""
    rows = list(rows)
    return {
        "not succeeded": sum(row["status"] != "succeeded" for row in rows),
        "attempts": sum(row["attempt"] != 1 for row in rows),
        "losses": sum(row["losses"] > 0 for row in rows),
    }


async def unrest(pg: Any) -> dict[str, int]:
    """Count what must not be left once nothing runs; the asking session does not count."""
    row = await pg.fetchrow(
        """
        select (select count(*) from pg_locks l where l.locktype = 'advisory' and l.database = d.oid) as advisory,
               count(*) filter (where a.state like 'idle in transaction%') as idle_in_transaction,
               count(*) filter (where a.application_name like 'dl/%') as chunks,
               count(*) filter (where a.application_name like 'dataloader %') as connections
          from pg_database d
          left join pg_stat_activity a on a.datname = d.datname and a.pid <> pg_backend_pid()
         where d.datname = current_database()
         group by d.oid
        """
    )
    return dict(row)


async def deadlocks(pg: Any) -> int:
    """Return how many deadlocks the server has seen in this database."""
    await pg.execute("select pg_stat_clear_snapshot()")
    return int(await pg.fetchval("select deadlocks from pg_stat_database where datname = current_database()"))


def server_errors(log: Path | None, database: str) -> dict[str, int]:
    """Count the server's complaints that say a race was lost; lines carry the name of their database."""
    if log is None:
        return {}
    lines = [line for line in log.read_text(errors="replace").splitlines() if f" {database} ERROR:" in line]
    return {
        "unique violations": sum("duplicate key value" in line for line in lines),
        "deadlocks": sum("deadlock detected" in line for line in lines),
    }


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """Return the notes of all runs."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile by rank."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]
