"""The control connection: claims, settles, and what must follow every commit that frees or adds something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

import asyncpg

from dataloader.context import AppContext
from dataloader.domain.jobs import FINISHED, Keys, Lease
from dataloader.domain.outcomes import SettleKind, Settlement
from dataloader.storage.db import PinnedConnection
from dataloader.storage.repositories.promotion import DUE_PER_STATEMENT, PromotionRepository
from dataloader.storage.repositories.queue import Claim, QueueRepository
from dataloader.storage.repositories.recovery import RecoveryRepository
from dataloader.storage.repositories.rows import Completed, Exchanged, Released

UNWRITABLE = {"type": "UnwritableOutcome", "message": "the outcome could not be stored", "traceback": None}


class Control:
    """What the control loop asks of the database, on one pinned connection.

    Args:
        ctx: The process.
        purpose: Names the connection in the server's activity list.
    """

    def __init__(self, ctx: AppContext, *, purpose: str) -> None:
        schema = ctx.settings.pg_schema
        self._ctx = ctx
        self._pinned = PinnedConnection(ctx.settings, purpose=purpose)
        self._queue = QueueRepository(schema, lease_s=ctx.settings.dl_default_lease_ttl_sec)
        self._promotion = PromotionRepository(schema)
        self._recovery = RecoveryRepository(schema)
        self._actor = f"worker:{ctx.process_id}"

    @property
    def generation(self) -> int:
        """Grows whenever the connection had to be opened again."""
        return self._pinned.generation

    async def exchange(
        self, settlements: Sequence[Settlement], claim: Claim | None, *, succeeded: Sequence[Lease] = ()
    ) -> Exchanged:
        """Record how runs ended and claim jobs in one statement; see `QueueRepository.exchange`.

        What waits for the settled is not woken yet: `announce_end` does it once the claimed jobs run.
        """
        try:
            async with self._pinned.use() as connection:
                return await self._queue.exchange(
                    connection, settlements, claim, succeeded=succeeded, actor=self._actor
                )
        except asyncpg.DataError:
            if not settlements:
                raise
        alone = [row for one in settlements for row in await self._settle_alone(one)]
        others = await self.exchange((), claim, succeeded=succeeded)
        return others._replace(settled=others.settled + alone)

    async def complete(self, leases: Sequence[Lease]) -> Completed:
        """Record that many runs succeeded which left neither result nor progress; see `QueueRepository.complete`."""
        async with self._pinned.use() as connection:
            completed = await self._queue.complete(connection, leases, actor=self._actor)
        if len(completed.missing) < len(leases):
            self._ctx.notifier.announce(("done",), in_bulk=True)
        return completed

    async def _settle(self, settlements: Sequence[Settlement]) -> list[Released]:
        async with self._pinned.use() as connection:
            return await self._queue.settle(connection, settlements, actor=self._actor)

    async def _settle_alone(self, one: Settlement) -> list[Released]:
        """Settle one run; what the database cannot store is replaced, so that the job ends."""
        try:
            return await self._settle([one])
        except asyncpg.DataError:
            return await self._settle([Settlement(one.lease, SettleKind.FAILED, error=UNWRITABLE)])

    async def fates(self, leases: Iterable[Lease]) -> dict[Lease, str]:
        """Return the status of those jobs whose epoch is still that of the lease; the other leases are lost."""
        wanted = list(leases)
        async with self._pinned.use() as connection:
            fates = await self._queue.fates(connection, [lease.job_id for lease in wanted])
        return {
            lease: fates[lease.job_id][1]
            for lease in wanted
            if lease.job_id in fates and fates[lease.job_id][0] == lease.epoch
        }

    def announce_end(self, released: Sequence[Released], *, in_bulk: bool = False) -> Keys:
        """Wake queues and waiters of runs whose end is written; return the keys that became free.

        Args:
            released: The runs.
            in_bulk: Whether there will soon be more of them; waiters of other processes then hear of it a little later.
        """
        locks = frozenset(one.lock_key for one in released if one.lock_key is not None)
        partitions = frozenset(one.partition_key for one in released if one.partition_key is not None)
        self._ctx.notifier.announce({f"queue:{one.queue}" for one in released if one.ready})
        if any(one.status in FINISHED for one in released):
            self._ctx.notifier.announce(("done",), in_bulk=in_bulk)
        return Keys(locks, partitions)

    async def follow_up(self, released: Sequence[Released]) -> None:
        """Wake queues and waiters of runs that were taken back, and offer the keys that became free."""
        if keys := self.announce_end(released):
            await self.promote(keys)

    async def promote(self, keys: Keys) -> None:
        """Offer what waits behind these keys, and wake the queues of what was offered."""
        async with self._pinned.use() as connection:
            self.announce(await self._promotion.promote(connection, keys))

    async def promote_due(self) -> bool:
        """Make a batch of due jobs without keys ready, and wake their queues; return whether more may be due."""
        async with self._pinned.use() as connection:
            offered = await self._promotion.promote_due(connection)
        self.announce(offered)
        return offered.total() >= DUE_PER_STATEMENT

    async def promote_keys_due(self, *, window_s: float) -> None:
        """Offer keyed jobs that became due within the last `window_s` seconds."""
        async with self._pinned.use() as connection:
            keys = await self._promotion.keys_due(connection, window_s=window_s)
        if keys:
            await self.promote(keys)

    async def promote_keys_after(self, lock: str, partition: str, limit: int) -> tuple[str, str]:
        """Offer the next keys of the scan that goes round; return where it goes on."""
        async with self._pinned.use() as connection:
            locks = await self._promotion.lock_keys_after(connection, lock, limit)
            partitions = await self._promotion.partition_keys_after(connection, partition, limit)
        if locks or partitions:
            await self.promote(Keys(frozenset(locks), frozenset(partitions)))
        return locks[-1] if len(locks) == limit else "", partitions[-1] if len(partitions) == limit else ""

    def announce(self, offered: Counter[str]) -> None:
        """Wake the queues in which jobs became ready."""
        self._ctx.notifier.announce(f"queue:{queue}" for queue in offered)

    async def server_time(self) -> datetime:
        """Return the database's clock."""
        async with self._pinned.use() as connection:
            return await self._recovery.server_time(connection)

    async def reap(self, asked_at: datetime, *, grace_s: float) -> list[Released]:
        """Take back leases that had expired at an instant, and wake what waits for them."""
        async with self._pinned.use() as connection:
            released = await self._recovery.reap(
                connection, asked_at, grace_s=grace_s, actor=f"reaper:{self._ctx.process_id}"
            )
        await self.follow_up(released)
        return released

    async def reconcile(self, held: Iterable[Lease], *, age_s: float) -> list[Released]:
        """Give back claims of this process whose answer never arrived."""
        async with self._pinned.use() as connection:
            released = await self._recovery.reconcile(
                connection, worker_id=self._ctx.process_id, held=held, age_s=age_s
            )
        await self.follow_up(released)
        return released

    async def terminate_strays(self, asked_at: datetime) -> int:
        """End server processes that work for runs whose lease was gone at an instant; return how many there were."""
        async with self._pinned.use() as connection:
            return await self._recovery.terminate_strays(connection, asked_at)

    async def cancel_statements(self, leases: Sequence[Lease]) -> None:
        """Cancel what the server executes for these runs now."""
        async with self._pinned.use() as connection:
            await self._recovery.cancel_statements(connection, leases)

    async def prune(self, *, retention_days: float) -> tuple[int, int]:
        """Remove one batch of old jobs and one of old idempotency keys; return how many of each."""
        async with self._pinned.use() as connection:
            jobs = await self._recovery.prune_jobs(connection, retention_days=retention_days)
            return jobs, await self._recovery.prune_keys(connection)

    async def close(self) -> None:
        """Close the connection."""
        await self._pinned.close()
