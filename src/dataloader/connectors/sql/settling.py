"""Which rows of a source are settled: no transaction that is still open can add one below a mark."""

from __future__ import annotations

import asyncio
import time

from dataloader.connectors.sql.source import SqlSource, refused
from dataloader.exceptions import RetryLater

RETRY_S = 30.0
_POLL_S = 0.25


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
    with refused(source.name):
        horizon = await source.connection.fetchval("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    mark = await source.highest(key)
    until_s = time.monotonic() + patience_s
    while mark is not None and not await _is_past(source, horizon):
        if time.monotonic() > until_s:
            raise RetryLater(RETRY_S, f"a transaction in {source.name} is open that may still add older rows")
        await asyncio.sleep(_POLL_S)
    return mark


async def _is_past(source: SqlSource, horizon: int) -> bool:
    with refused(source.name):
        oldest: int = await source.connection.fetchval("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    return oldest >= horizon
