"""The hot path: claim, heartbeat, checkpoint, settle. Every write of a run names its job and its epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from dataloader.domain.jobs import ClaimedJob, Keys, Lease
from dataloader.domain.json_values import dump, dump_result, dump_storable
from dataloader.domain.outcomes import Settlement
from dataloader.storage.db import Connection
from dataloader.storage.queries import exchange_of, load_queries
from dataloader.storage.repositories.rows import (
    Beat,
    Completed,
    Exchanged,
    Position,
    Reached,
    Released,
    Verdict,
)

BEFORE_ALL = Position(-32_768, datetime(1, 1, 1, tzinfo=UTC), 0)


class Claim(NamedTuple):
    """What a process wants to run.

    Attributes:
        queue: Queue to claim from.
        tasks: Tasks that this process knows.
        limit: Free slots.
        worker_id: The claiming process.
        idle: Whether the process runs nothing else; then one job that was lost before may come, alone.
        after: Where the jobs begin that are looked at, in the order of claims.
    """

    queue: str
    tasks: Sequence[str]
    limit: int
    worker_id: UUID
    idle: bool
    after: Position = BEFORE_ALL


_NOTHING = Claim("", (), 0, UUID(int=0), idle=False)


class QueueRepository:
    """What workers do to jobs.

    Args:
        schema: Schema of the tables.
        lease_s: Seconds a lease lasts from each renewal.
    """

    def __init__(self, schema: str, *, lease_s: float) -> None:
        self._schema = schema
        self._sql = load_queries(schema)
        self._lease_s = lease_s

    async def exchange(
        self,
        connection: Connection,
        settlements: Sequence[Settlement],
        claim: Claim | None,
        *,
        succeeded: Sequence[Lease] = (),
        actor: str,
    ) -> Exchanged:
        """Record how runs ended, and claim jobs, in one statement.

        Args:
            connection: In autocommit, so that both are committed when this returns.
            settlements: How runs ended.
            claim: What to claim, None for nothing.
            succeeded: More runs, which succeeded and left neither result nor progress.
            actor: Who does it, for the audit log.

        Returns:
            The runs that were settled: one that is missing had lost its lease, or its row is locked. The claimed jobs,
            in order of priority, due time and age. And how far the claim came.
        """
        wanted = claim or _NOTHING
        rows = await connection.fetch(
            exchange_of(self._schema, len(wanted.tasks), settling=bool(settlements or succeeded)),
            [one.lease.job_id for one in settlements],
            [one.lease.epoch for one in settlements],
            [one.kind for one in settlements],
            [one.delay_s for one in settlements],
            [None if one.error is None else dump(one.error) for one in settlements],
            [None if one.result is None else dump_result(one.result) for one in settlements],
            [None if one.progress is None else dump(one.progress) for one in settlements],
            [one.start_over for one in settlements],
            [None if one.data is None else dump(one.data) for one in settlements],
            actor,
            [lease.job_id for lease in succeeded],
            [lease.epoch for lease in succeeded],
            wanted.queue,
            wanted.tasks,
            wanted.limit,
            wanted.worker_id,
            self._lease_s,
            wanted.idle,
            self._lease_s,
            *wanted.after,
        )
        reached = Reached.from_row(rows.pop()) if wanted.limit else None
        settled = next((place for place, row in enumerate(rows) if row["task"] is not None), len(rows))
        return Exchanged(
            [Released.from_row(row) for row in rows[:settled]],
            rows[settled:],
            wanted.queue,
            reached,
        )

    async def complete(self, connection: Connection, leases: Sequence[Lease], *, actor: str) -> Completed:
        """Record that runs succeeded which left neither result nor progress; `exchange` does the same for a few.

        Args:
            connection: In autocommit, so that it is committed when this returns.
            leases: The runs.
            actor: Who does it, for the audit log.
        """
        row = await connection.fetchrow(
            self._sql.complete, [lease.job_id for lease in leases], [lease.epoch for lease in leases], actor
        )
        assert row  # noqa: S101 - an aggregate has one row
        locks, partitions, job_ids, epochs = row
        missing = frozenset() if job_ids is None else frozenset(leases).difference(map(Lease, job_ids, epochs))
        return Completed(missing, Keys(frozenset(locks or ()), frozenset(partitions or ())))

    async def claim(self, connection: Connection, claim: Claim, *, actor: str) -> list[ClaimedJob]:
        """Claim jobs and settle nothing; see `exchange`."""
        return (await self.exchange(connection, (), claim, actor=actor)).claimed()

    async def settle(self, connection: Connection, settlements: Sequence[Settlement], *, actor: str) -> list[Released]:
        """Record how runs ended and claim nothing; see `exchange`."""
        return (await self.exchange(connection, settlements, None, actor=actor)).settled

    async def heartbeat(
        self, connection: Connection, leases: Mapping[Lease, Mapping[str, object] | None]
    ) -> list[Beat]:
        """Renew leases in one statement; the values are progress to save, None where it has not changed."""
        rows = await connection.fetch(
            self._sql.heartbeat,
            [lease.job_id for lease in leases],
            [lease.epoch for lease in leases],
            [None if progress is None else dump(progress) for progress in leases.values()],
            self._lease_s,
        )
        return [
            Beat(Lease(row["job_id"], row["epoch"]), Verdict(row["verdict"]), row["cancel_requested"]) for row in rows
        ]

    async def checkpoint(
        self,
        connection: Connection,
        lease: Lease,
        *,
        state: Mapping[str, object] | None,
        progress: Mapping[str, object] | None,
        line: Mapping[str, object] | None = None,
    ) -> bool | None:
        """Fence the open transaction, and save checkpoint and progress with it, and a line of the ledger of chunks.

        Returns:
            Whether the job was asked to stop; None when the lease is gone and the transaction must be rolled back.
        """
        cancel_requested: bool | None = await connection.fetchval(
            self._sql.checkpoint,
            lease.job_id,
            lease.epoch,
            None if state is None else dump_storable(state),
            None if progress is None else dump(progress),
            self._lease_s,
            None if line is None else dump_storable(line),
        )
        return cancel_requested

    async def fates(self, connection: Connection, job_ids: Sequence[UUID]) -> dict[UUID, tuple[int, str]]:
        """Return epoch and status of jobs, to learn what became of a write whose answer was lost."""
        rows = await connection.fetch(self._sql.fate, job_ids)
        return {row["job_id"]: (row["epoch"], row["status"]) for row in rows}
