"""The composition root: a process of the service, from its settings to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from dataloader.api.app import create_app
from dataloader.api.server import ApiServer
from dataloader.api.waiter import JobWaiter
from dataloader.base import Component
from dataloader.cli.readiness import await_database, check_queues, unless_stopped
from dataloader.cli.signals import Shutdown
from dataloader.cli.supervision import run_until_stopped
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.embedded import EmbeddedServer
from dataloader.workers.manager import WorkerManager
from dataloader.workers.pipelines.registry import Registry, load_all

OVERTIME_S = 4.0
"""How long past the shutdown grace a process may take before it ends itself."""

@dataclass(frozen=True, slots=True)
class Roles:
    """What a process does."""

    api: bool = False
    workers: bool = False


async def serve(
    settings: Settings,
    roles: Roles,
    *,
    embedded: EmbeddedServer | None = None,
    migrating: bool = False,
    on_up: Callable[[AppContext, int | None], None] | None = None,
) -> None:
    """Run the service in this process until a signal has ended it in order.

    Args:
        settings: Lead to the embedded server if there is one.
        roles: What to run.
        embedded: Started first, brought back whenever it dies, left at the end.
        migrating: Bring the schema to this version at the start.
        on_up: Called once everything runs, with the port of the API if there is one.

    Raises:
        SettingsError: A setting does not work out; the message names it.
        SchemaVersionError: The schema does not fit.
        ComponentDiedError: A part died unexpectedly; the log names it.
    """
    shutdown = Shutdown()
    async with AsyncExitStack() as stack:
        stack.enter_context(shutdown.on_signals())
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
            await unless_stopped(embedded.start(), shutdown.stop)
        ctx = await stack.enter_async_context(open_context(settings))
        shutdown.on_change = ctx.loggers.app.info
        await _Process(ctx, roles, shutdown).run(embedded, migrating=migrating, on_up=on_up)
