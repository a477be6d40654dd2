"""The rules themselves: each finds what it is there to find."""

from __future__ import annotations

from uuid import UUID

import pytest

from dataloader.domain.outcomes import SettleKind
from dataloader.storage.db import Connection
from tests.storage.interleavings import rules
from tests.storage.scene import claim, enqueue, expire, job, promote, reap, rerun, running, settle

OVERLAP = "update dl_job_events set event_id = event_id + 1000 where kind in ('succeeded', 'handed_over')"


@pytest.mark.parametrize(
    ("damage", "broken"),
    [
        ("delete from dl_jobs where seq = 2", "an acknowledged job is gone"),
        ("update dl_jobs set epoch = epoch + 1 where seq = 1", "an epoch stands for one claim"),
        ("update dl_jobs set losses = losses + 1 where seq = 1", "a loss is charged once"),
        ("update dl_jobs set attempt = attempt + 1 where seq = 1", "only a real attempt counts"),
        ("delete from dl_job_events where kind = 'succeeded'", "a job ends once"),
        (OVERLAP, "two jobs of l at a time"),
        ("update dl_jobs set seq = 10 - seq", "a partition was overtaken"),
    ],
)
async def test_damage_is_found(pg: Connection, damage: str, broken: str) -> None:
    ids = [await one(pg), await one(pg)]
    await rules.check(pg, ids)

    await pg.execute(damage)

    with pytest.raises(AssertionError, match=broken):
        await rules.check(pg, ids)


async def test_what_is_given_back_is_no_damage(pg: Connection) -> None:
    lease = await running(pg)
    await settle(pg, lease, SettleKind.HANDED_OVER)
    lease = await rerun(pg, lease.job_id)
    await expire(pg, lease.job_id)
    await reap(pg)
    await settle(pg, await rerun(pg, lease.job_id), SettleKind.FAILED)

    await rules.check(pg, [lease.job_id])


async def one(pg: Connection) -> UUID:
    """Run a job with keys to its end."""
    (job_id,) = await enqueue(pg, job(lock_key="l", partition_key="p"))
    await promote(pg, "l", "p")
    (claimed,) = await claim(pg)
    await settle(pg, claimed.lease, SettleKind.SUCCEEDED)
    return job_id
