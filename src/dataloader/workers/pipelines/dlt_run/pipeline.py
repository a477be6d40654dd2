"""The pipeline `dlt.run`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from dataloader.exceptions import RetryLater
from dataloader.storage.db import connect, direct_dsn
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
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
    async with _alone(args, ctx):
        with working_folder(ctx.settings.dl_data_dir / "dlt") as folder:
            ctx.result = await asyncio.to_thread(load, args, ctx, where, folder)
    yield


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
