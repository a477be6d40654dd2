"""What brings every job to an end when its worker does not, and removes what is old."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from dataloader.domain.jobs import Lease
from dataloader.storage.db import Connection
from dataloader.storage.queries import load_queries, run_name, run_prefix
from dataloader.storage.repositories.rows import Released

REAP_LIMIT = 500
PRUNE_LIMIT = 1_000


class RecoveryRepository:
    """Reaping, reconciling, ending stray backends, pruning.

    Args:
        schema: Schema of the tables.
    """

    def __init__(self, schema: str) -> None:
        self._schema = schema
        self._sql = load_queries(schema)

    async def server_time(self, connection: Connection) -> datetime:
        """Return the server's clock."""
        now: datetime = await connection.fetchval(self._sql.server_time)
        return now

    async def reap(self, connection: Connection, asked_at: datetime, *, grace_s: float, actor: str) -> list[Released]:
        """Take back leases that had expired at `asked_at`; `grace_s` after a start of the server nothing is taken."""
        rows = await connection.fetch(self._sql.reap, REAP_LIMIT, grace_s, actor, asked_at)
        return [Released.from_row(row) for row in rows]

    async def reconcile(
        self, connection: Connection, *, worker_id: UUID, held: Iterable[Lease], age_s: float
    ) -> list[Released]:
        """Give back claims of this worker that it does not know of, once they are `age_s` seconds old."""
        leases = list(held)
        rows = await connection.fetch(
            self._sql.reconcile,
            worker_id,
            [lease.epoch for lease in leases],
            [lease.job_id for lease in leases],
            age_s,
        )
        return [Released.from_row(row) for row in rows]

    async def terminate_strays(self, connection: Connection, asked_at: datetime) -> int:
        """End backends that work for runs whose lease was gone at `asked_at`; return how many there were."""
        return int(await connection.fetchval(self._sql.terminate_strays, asked_at, run_prefix(self._schema)) or 0)

    async def cancel_statements(self, connection: Connection, leases: Iterable[Lease]) -> int:
        """Cancel the statements that these runs execute now; return how many there were."""
        names = [run_name(lease.job_id, lease.epoch, schema=self._schema) for lease in leases]
        return int(await connection.fetchval(self._sql.cancel_run, names) or 0)

    async def prune_jobs(self, connection: Connection, *, retention_days: float) -> int:
        """Remove one batch of finished jobs with their events; return how many jobs."""
        return int(await connection.fetchval(self._sql.prune_jobs, retention_days, PRUNE_LIMIT) or 0)

    async def prune_keys(self, connection: Connection) -> int:
        """Remove one batch of idempotency keys that nothing needs any more; return how many."""
        return int(await connection.fetchval(self._sql.prune_keys, PRUNE_LIMIT) or 0)
