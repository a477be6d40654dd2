"""The pipeline `dlt.run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager

from dataloader.connectors.sql import named_dsn
from dataloader.domain.datasets import Database
from dataloader.exceptions import RetryLater
from dataloader.storage.db import connect, direct_dsn, own_database
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
from dataloader.workers.pipelines.dlt_run.dataset import check_dataset
from dataloader.workers.pipelines.dlt_run.destination import credentials
from dataloader.workers.pipelines.dlt_run.folder import working_folder
from dataloader.workers.pipelines.dlt_run.load import load
from dataloader.workers.pipelines.dlt_run.source import check_allowed
from dataloader.workers.pipelines.registry import register

_BUSY_S = 2.0


@register("dlt.run", queue="dlt.run", executor="process")
async def dlt_run(args: DltRunArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Run a dlt source of your own in a child process, into a schema of this or another PostgreSQL."""
    check_allowed(args, ctx.settings)
    where = credentials(ctx.settings, args.connection)
    await check_dataset(args, ctx.settings)
    async with _alone(args, ctx):
        with working_folder(ctx.settings.dl_data_dir / "dlt") as folder:
            ctx.result = loaded = await asyncio.to_thread(load, args, ctx, where, folder)
        await _record(args, ctx, loaded["rows"])
    yield


async def _record(args: DltRunArgs, ctx: JobContext, rows: Mapping[str, int]) -> None:
    """Write what dlt has committed into the ledger of chunks, a line per table."""
    own = args.connection is None
    database = own_database(ctx.settings) if own else Database.of_dsn(named_dsn(ctx.settings, str(args.connection)))
    for table, count in rows.items():
        async with ctx.transaction() as tx:
            tx.rows += count
            tx.record(source=args.source, target=database.table(args.dataset, table))


@asynccontextmanager
async def _alone(args: DltRunArgs, ctx: JobContext) -> AsyncIterator[None]:
    """Hold the name of the dlt pipeline; the server frees it when the process is gone.

    A lock of a session needs a session: it goes past a pooler, where DL_LISTEN_DSN does.

    Raises:
        RetryLater: Another run holds it.
    """
    connection = await connect(ctx.settings, purpose="dlt", dsn=direct_dsn(ctx.settings), command_timeout_s=None)
    try:
        key = f"dataloader.dlt_run:{args.pipeline_name}"
        if not await connection.fetchval("select pg_try_advisory_lock(hashtextextended($1, 0))", key):
            raise RetryLater(_BUSY_S, f"another run of {args.source} into {args.dataset} is not done")
        yield
    finally:
        connection.terminate()
