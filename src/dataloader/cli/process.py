"""The composition root: a process of the service, from its settings to its end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib.metadata import version

from dataloader.api.app import components, create_app
from dataloader.api.server import ApiServer
from dataloader.base import Component
from dataloader.cli.options import embedded_server
from dataloader.cli.readiness import await_database, check_queues, unless_stopped
from dataloader.cli.signals import Shutdown
from dataloader.cli.supervision import run_until_stopped
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.telemetry.exposition import MetricsPort
from dataloader.workers.manager import WorkerManager
from dataloader.workers.pipelines.registry import Registry, load_all

COLLECTOR_THRESHOLDS = (20_000, 20, 20)

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
    embedded: bool = False,
    migrating: bool = False,
    on_up: Callable[[int], None] | None = None,
) -> None:
    """Run the service in this process until a signal has ended it in order.

    Args:
        settings: They lead to the embedded server if there is one.
        roles: What to run.
        embedded: Start the embedded server first, bring it back whenever it dies, leave it at the end.
        migrating: Bring the schema to this version at the start.
        on_up: Called with the port of the API once it takes requests.

    Raises:
        SettingsError: A setting does not work out; the message names it.
        SchemaVersionError: The schema does not fit.
        ComponentDiedError: A part died unexpectedly; the log names it.
    """
    shutdown = Shutdown(limit_s=settings.dl_shutdown_grace_sec + OVERTIME_S)
    async with AsyncExitStack() as outermost, open_context(settings) as ctx:
        outermost.enter_context(shutdown.on_signals())
        shutdown.on_change = ctx.loggers.app.info
        registry = load_all(settings.dl_pipelines)
        if roles.workers:
            check_queues(settings, registry, ctx.loggers.app, must_work=not roles.api)
        server = embedded_server(settings, logger=ctx.loggers.app) if embedded else None
        if server is not None:
            outermost.push_async_callback(server.stop)
            if not server.is_running:
                ctx.loggers.app.info("starting embedded PostgreSQL", data_dir=str(settings.dl_data_dir))
            await unless_stopped(server.start(), shutdown.stop)
        await unless_stopped(await_database(ctx, migrating=migrating, stop=shutdown.stop), shutdown.stop)
        if not shutdown.stop.is_set():
            _calm_the_collector()
            ctx.loggers.app.info("starting", version=version("dataloader"), roles=roles.names())
            ground: list[Component] = [ctx.listener, ctx.notifier, *([server] if server else [])]
            front = _front(ctx, registry, roles, shutdown=shutdown, on_up=on_up)
            await run_until_stopped(ground, front, stop=shutdown.stop, logger=ctx.loggers.app)
        ctx.loggers.app.info("stopped")


def _calm_the_collector() -> None:
    """Leave modules and settings out of garbage collections, and have fewer: batches of jobs would each pay for one."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTOR_THRESHOLDS)


def _front(
    ctx: AppContext, registry: Registry, roles: Roles, *, shutdown: Shutdown, on_up: Callable[[int], None] | None
) -> list[Component]:
    """Build what does the work; of `/status`, the API learns how the workers in this process are."""
    manager = WorkerManager(ctx, registry) if roles.workers else None
    if manager is not None:
        shutdown.on_hurry = manager.hand_over_now
    if not roles.api:
        return [*([manager] if manager else []), *_metrics_port(ctx)]
    app = create_app(ctx, registry=registry, worker_facts=manager.facts if manager else None)
    server = ApiServer(app, ctx.settings)
    announcement = Announcement(server, lambda port: _say_up(ctx, port, on_up))
    return [server, *components(app), announcement, *([After(server.started, manager)] if manager else [])]


def _metrics_port(ctx: AppContext) -> list[Component]:
    """Serve the metrics of a process without API where that is asked for."""
    port = ctx.settings.dl_metrics_port
    return [] if port is None else [MetricsPort(ctx.metrics, host=ctx.settings.host, port=port)]


def _say_up(ctx: AppContext, port: int, on_up: Callable[[int], None] | None) -> None:
    ctx.loggers.app.info("api listening", host=ctx.settings.host, port=port)
    if on_up is not None:
        on_up(port)


class After:
    """A component that begins after something else: workers must not claim for a process whose port is taken."""

    def __init__(self, event: asyncio.Event, component: Component) -> None:
        self._event = event
        self._component = component

    @property
    def name(self) -> str:
        """Name of the component."""
        return self._component.name

    async def run(self, stop: asyncio.Event) -> None:
        """Wait for the event, then run the component."""
        await unless_stopped(self._event.wait(), stop)
        if not stop.is_set():
            await self._component.run(stop)


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
