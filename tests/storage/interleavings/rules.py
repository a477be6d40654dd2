"""What holds after every order: read from the rows and from the audit log, not from what the sessions were told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import asyncpg

from dataloader.domain.jobs import FINISHED
from dataloader.storage.db import Connection

_EVENTS = """
select e.job_id, e.kind, e.status, j.seq, j.lock_key, j.partition_key,
       coalesce(e.actor, '') like 'reaper:%' or e.kind in ('handed_over', 'retry_later') as given_back
  from dl_job_events e join dl_jobs j using (job_id) order by e.event_id
"""


async def check(pg: Connection, acknowledged: Iterable[UUID]) -> None:
    """Hold the tables against the promises.

    Args:
        pg: A session that sees what is committed.
        acknowledged: Jobs whose enqueuing was committed.
    """
    jobs = {row["job_id"]: row for row in await pg.fetch("select * from dl_jobs")}
    events = await pg.fetch(_EVENTS)

    assert set(acknowledged) <= set(jobs), "an acknowledged job is gone"
    for job_id, row in jobs.items():
        _counts_agree(row, [event for event in events if event["job_id"] == job_id])
    for column in ("lock_key", "partition_key"):
        _one_at_a_time(events, column)
    _in_order(events)


def _counts_agree(row: asyncpg.Record, events: list[asyncpg.Record]) -> None:
    kinds = Counter(event["kind"] for event in events)
    assert kinds["created"] == 1
    assert row["epoch"] == kinds["claimed"], "an epoch stands for one claim"
    assert row["losses"] == kinds["lease_expired"] + kinds["lost"], "a loss is charged once"
    if row["status"] != "canceled":  # its last attempt may have been given back on the way
        given_back = sum(event["given_back"] for event in events)
        assert row["attempt"] == kinds["claimed"] - given_back, "only a real attempt counts"
    assert sum(event["status"] in FINISHED for event in events) == (row["status"] in FINISHED), "a job ends once"
    assert events[-1]["status"] == row["status"], "the last event tells the state"


def _one_at_a_time(events: list[asyncpg.Record], column: str) -> None:
    """Every job has left `running` before the next one of its key comes to it."""
    holders: dict[str, UUID] = {}
    for event in events:
        key, job_id = event[column], event["job_id"]
        if key is None:
            continue
        if event["kind"] == "claimed":
            assert key not in holders, f"two jobs of {key} at a time"
            holders[key] = job_id
        elif event["status"] != "running" and holders.get(key) == job_id:
            del holders[key]


def _in_order(events: list[asyncpg.Record]) -> None:
    """The jobs of a partition start for the first time in the order of their acknowledgement."""
    starts: dict[str, list[int]] = {}
    for event in events:
        key, seq = event["partition_key"], event["seq"]
        if key is not None and event["kind"] == "claimed" and seq not in starts.setdefault(key, []):
            starts[key].append(seq)
    assert all(seqs == sorted(seqs) for seqs in starts.values()), "a partition was overtaken"
