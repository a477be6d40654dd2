"""The promoter: a backlog of due jobs becomes ready in one step."""

from __future__ import annotations

from dataloader.config import Settings
from dataloader.context import open_context
from dataloader.storage.db import Connection
from dataloader.storage.repositories.promotion import DUE_PER_STATEMENT
from dataloader.workers.control import Control
from dataloader.workers.promoter import Promoter


async def test_one_step_takes_a_backlog_of_many_batches(settings: Settings, pg: Connection) -> None:
    due = 2 * DUE_PER_STATEMENT + 1
    await pg.execute(f"insert into dl_jobs (queue, task) select 'q', 't' from generate_series(1, {due})")
    async with open_context(settings) as ctx:
        control = Control(ctx, purpose="test")
        try:
            await Promoter(ctx, control).step()
        finally:
            await control.close()

    assert await pg.fetchval("select count(*) from dl_jobs where ready") == due
