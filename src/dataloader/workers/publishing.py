"""Publishes the tasks a process knows to the catalogue that APIs check triggers against."""

from __future__ import annotations

import asyncio

from dataloader.base import wait_for
from dataloader.context import AppContext
from dataloader.storage.db import PinnedConnection
from dataloader.storage.repositories.presence import PresenceRepository, TaskEntry
from dataloader.workers.periodic import Patience
from dataloader.workers.pipelines.registry import Registry


async def publish_tasks(ctx: AppContext, registry: Registry, stop: asyncio.Event) -> None:
    """Publish the catalogue; the database may go away between the check at the start and here."""
    patience = Patience(ctx.loggers.app.bind(part="catalogue"))
    while not stop.is_set():
        try:
            await _publish(ctx, registry)
        except Exception as error:  # noqa: BLE001 - a retry boundary: what does not pass is raised again
            await wait_for(stop, patience.failed(error))
        else:
            patience.ok()
            return


async def _publish(ctx: AppContext, registry: Registry) -> None:
    entries = [
        TaskEntry(
            spec.name,
            spec.queue,
            spec.doc,
            spec.args_schema(),
            spec.options.as_json(),
            spec.options.on_partition_failure.value,
        )
        for spec in registry
    ]
    pinned = PinnedConnection(ctx.settings, purpose="catalogue")
    try:
        async with pinned.use() as connection:
            await PresenceRepository(ctx.settings.pg_schema).publish(connection, entries)
    finally:
        await pinned.close()
