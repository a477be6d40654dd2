"""Which rows of a source are settled: no transaction that is still open can add one below a mark."""

from __future__ import annotations

import asyncio
import time

from dataloader.connectors.sql.source import READERS, SqlSource, refused
from dataloader.exceptions import RetryLater

RETRY_S = 30.0
_POLL_S = 0.1
_HORIZON = "select pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_OLDEST = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_OPEN = """
select coalesce(array_agg(l.virtualxid), '{}')
  from pg_locks l join pg_stat_activity a using (pid)
 where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock' and l.pid <> pg_backend_pid()
   and a.usesysid is not null and a.application_name <> all ($1)
   and a.datid = (select oid from pg_database where datname = current_database())
"""
"""Transactions, also those that have written nothing yet: they may write a time that is their beginning's."""

_STILL_OPEN = "select exists (select from pg_locks where locktype = 'virtualxid' and virtualxid = any ($1))"


async def settled_mark(source: SqlSource, key: str, *, patience_s: float) -> str | None:
    """Return the greatest key below which nothing can appear any more; None if there are no rows.

    Keys come from a sequence or a clock when a row is written, and are seen when its transaction commits: a
    transaction that is open while the greatest key is read may still bring smaller ones. So all of those are waited
    for; what begins later gets greater keys.

    Args:
        source: What is read.
        key: The column that grows.
        patience_s: How long to wait.

    Raises:
        RetryLater: A transaction stays open for longer.
    """
    mark = await source.highest(key)
    with refused(source.name):
        horizon: int = await source.connection.fetchval(_HORIZON)
        others: list[str] = await source.connection.fetchval(_OPEN, list(READERS))
    until_s = time.monotonic() + patience_s
    while mark is not None and not await _is_past(source, horizon, others):
        if time.monotonic() > until_s:
            raise RetryLater(RETRY_S, f"a transaction in {source.name} is open that may still add older rows")
        await asyncio.sleep(_POLL_S)
    return mark


async def _is_past(source: SqlSource, horizon: int, others: list[str]) -> bool:
    with refused(source.name):
        if await source.connection.fetchval(_STILL_OPEN, others):
            return False
        oldest: int = await source.connection.fetchval(_OLDEST)
    return oldest >= horizon
