"""What becomes claimable: due times and free keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from dataloader.domain.jobs import Keys
from dataloader.storage.db import Connection
from dataloader.storage.queries import load_queries

KEYS_PER_TRANSACTION = 200
DUE_PER_STATEMENT = 1_000


class PromotionRepository:
    """Sets `ready`; every call is a short transaction of its own.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._sql = load_queries(schema)

    async def promote(self, connection: Connection, keys: Keys) -> Counter[str]:
        """Offer the next job of each key that is free; return how many became ready per queue."""
        offered: Counter[str] = Counter()
        for locks, partitions in _batches(keys):
            for row in await connection.fetch(self._sql.promote, locks, partitions):
                offered[row["queue"]] += row["offered"]
        return offered

    async def promote_due(self, connection: Connection) -> Counter[str]:
        """Make due jobs without keys ready; return how many per queue."""
        rows = await connection.fetch(self._sql.promote_due, DUE_PER_STATEMENT)
        return Counter({row["queue"]: row["offered"] for row in rows})

    async def keys_due(self, connection: Connection, *, window_s: float) -> Keys:
        """Return keys of jobs that became due within the last `window_s` seconds."""
        rows = await connection.fetch(self._sql.keys_due, window_s, DUE_PER_STATEMENT)
        return Keys(
            frozenset(row["lock_key"] for row in rows if row["lock_key"] is not None),
            frozenset(row["partition_key"] for row in rows if row["partition_key"] is not None),
        )

    async def lock_keys_after(self, connection: Connection, key: str, limit: int) -> list[str]:
        """Return the next distinct lock keys in order, for a scan that goes round."""
        return [row["key"] for row in await connection.fetch(self._sql.lock_keys_after, key, limit)]

    async def partition_keys_after(self, connection: Connection, key: str, limit: int) -> list[str]:
        """Return the next distinct partition keys in order, for a scan that goes round."""
        return [row["key"] for row in await connection.fetch(self._sql.partition_keys_after, key, limit)]


def _batches(keys: Keys) -> Iterable[tuple[list[str], list[str]]]:
    locks, partitions = sorted(keys.locks), sorted(keys.partitions)
    for start in range(0, max(len(locks), len(partitions)), KEYS_PER_TRANSACTION):
        stop = start + KEYS_PER_TRANSACTION
        yield locks[start:stop], partitions[start:stop]
