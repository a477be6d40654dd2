"""The composition root: a process of the service, from its settings to its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from dataloader.api.app import components, create_app
from dataloader.api.server import ApiServer
from dataloader.base import Component
from dataloader.cli.options import configure
from dataloader.cli.readiness import await_database, check_queues, unless_stopped
from dataloader.cli.signals import Shutdown
from dataloader.cli.supervision import run_until_stopped
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.embedded import EmbeddedServer
from dataloader.workers.manager import WorkerManager
from dataloader.workers.pipelines.registry import Registry, load_all

OVERTIME_S = 4.0
"""How long past the shutdown grace a process may take before it ends itself: Kubernetes kills after 30 s."""


@dataclass(frozen=True, slots=True)
class Roles:
    """What a process does."""

    api: bool = False
    workers: bool = False

    def names(self) -> list[str]:
        """Return the roles by name."""
        return [name for name, wanted in (("api", self.api), ("workers", self.workers)) if wanted]


async def serve(
    settings: Settings,
    roles: Roles,
    *,
    embedded: EmbeddedServer | None = None,
    migrating: bool = False,
    on_up: Callable[[int], None] | None = None,
) -> None:
    """Run the service in this process until a signal has ended it in order.

    Args:
        settings: They lead to the embedded server if there is one.
        roles: What to run.
        embedded: Started first, brought back whenever it dies, left at the end.
        migrating: Bring the schema to this version at the start.
        on_up: Called with the port of the API once it takes requests.

    Raises:
        SettingsError: A setting does not work out; the message names it.
        SchemaVersionError: The schema does not fit.
        ComponentDiedError: A part died unexpectedly; the log names it.
    """
    shutdown = Shutdown(limit_s=settings.dl_shutdown_grace_sec + OVERTIME_S)
    async with AsyncExitStack() as stack:
        stack.enter_context(shutdown.on_signals())
        if embedded is not None:
            stack.push_async_callback(embedded.stop)
        ctx = await stack.enter_async_context(open_context(settings))
        shutdown.on_change = ctx.loggers.app.info
        registry = load_all(settings.dl_pipelines)
        if roles.workers:
            check_queues(settings, registry, ctx.loggers.app, must_work=not roles.api)
        if embedded is not None:
            await unless_stopped(embedded.start(), shutdown.stop)
        await unless_stopped(await_database(ctx, migrating=migrating, stop=shutdown.stop), shutdown.stop)
        if not shutdown.stop.is_set():
            ctx.loggers.app.info("starting", version=version("dataloader"), roles=roles.names())
            ground: list[Component] = [ctx.listener, ctx.notifier, *([embedded] if embedded else [])]
            front = _front(ctx, registry, roles, shutdown=shutdown, on_up=on_up)
            await run_until_stopped(ground, front, stop=shutdown.stop, logger=ctx.loggers.app)
        ctx.loggers.app.info("stopped")


def _front(
    ctx: AppContext, registry: Registry, roles: Roles, *, shutdown: Shutdown, on_up: Callable[[int], None] | None
) -> list[Component]:
    """Build what does the work; of `/status`, the API learns how the workers in this process are."""
    parts: list[Component] = []
    manager = WorkerManager(ctx, registry) if roles.workers else None
    if manager is not None:
        shutdown.on_hurry = manager.hand_over_now
        parts.append(manager)
    if roles.api:
        app = create_app(ctx, registry=registry, worker_facts=manager.facts if manager else None)
        server = ApiServer(app, ctx.settings)
        parts += [server, *components(app)]
        if on_up is not None:
            parts.append(Announcement(server, on_up))
    return parts


class Announcement:
    """Says once that the API takes requests."""

    name = "announcement"

    def __init__(self, server: ApiServer, on_up: Callable[[int], None]) -> None:
        self._server = server
        self._on_up = on_up

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the API, say so, and wait for the end."""
        await unless_stopped(self._server.started.wait(), stop)
        if not stop.is_set():
            self._on_up(self._server.port)
        await stop.wait()


@asynccontextmanager
async def private_api() -> AsyncIterator[str]:
    """Serve the API on the embedded database for one command of this process; yields its address.

    Raises:
        SchemaVersionError: The schema does not fit.
        EmbeddedServerError: The server does not start.
    """
    settings, server = configure(embedded=True, app_host="127.0.0.1", app_port=0, log_level="ERROR")
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        if server is not None:
            await stack.enter_async_context(server)
        ctx = await stack.enter_async_context(open_context(settings))
        await await_database(ctx, migrating=False, stop=stop)
        app = create_app(ctx, registry=load_all(settings.dl_pipelines))
        api = ApiServer(app, settings)
        running = asyncio.ensure_future(
            run_until_stopped([ctx.listener, ctx.notifier], [api, *components(app)], stop=stop, logger=ctx.loggers.app)
        )
        try:
            await unless_stopped(api.started.wait(), stop)
            yield f"http://127.0.0.1:{api.port}"
        finally:
            stop.set()
            await running
