"""A service inside of one command: an API of its own, and workers if it is to run a job itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dataloader.api.app import components, create_app
from dataloader.api.server import ApiServer
from dataloader.base import Component
from dataloader.cli.options import attached, configure
from dataloader.cli.readiness import await_database, unless_stopped
from dataloader.cli.supervision import run_until_stopped
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.workers.manager import WorkerManager
from dataloader.workers.pipelines.registry import Registry, load_all


@dataclass(frozen=True, slots=True)
class PrivateService:
    """What a command has for itself.

    Attributes:
        url: Address of the API.
    """

    ctx: AppContext
    url: str


def private_settings(*, embedded: bool, **overrides: object) -> Settings:
    """Return the settings of a service that only this command talks to.

    The screen belongs to the command: audit lines go to a file beside the data unless AUDIT_LOG_PATH names another.
    """
    settings = configure(embedded=embedded, app_host="127.0.0.1", app_port=0, log_level="ERROR", **overrides)
    if settings.audit_log_path is None:
        settings = settings.model_copy(update={"audit_log_path": settings.dl_data_dir})
    return settings


@asynccontextmanager
async def private_api() -> AsyncIterator[str]:
    """Serve the API on the embedded database for one command of this process; yields its address.

    Raises:
        SchemaVersionError: The schema does not fit.
        EmbeddedServerError: The server does not start.
    """
    settings = private_settings(embedded=True)
    registry = load_all(settings.dl_pipelines)
    async with private_service(settings, registry, embedded=True) as service:
        yield service.url


@asynccontextmanager
async def private_service(
    settings: Settings, registry: Registry, *, embedded: bool, working: bool = False, migrating: bool = False
) -> AsyncIterator[PrivateService]:
    """Run an API, and workers if asked to, until the block ends; what still runs then is handed over.

    Args:
        settings: Made by `private_settings`.
        registry: The tasks to know.
        embedded: Keep the embedded server running meanwhile.
        working: Run jobs of the queues that WORKERS_JSON of the settings names.
        migrating: Bring the schema to this version at the start.

    Raises:
        SchemaVersionError: The schema does not fit.
        EmbeddedServerError: The server does not start.
    """
    stop = asyncio.Event()
    async with attached(settings, embedded=embedded), open_context(settings) as ctx:
        await await_database(ctx, migrating=migrating, stop=stop)
        app = create_app(ctx, registry=registry)
        api = ApiServer(app, settings)
        manager = WorkerManager(ctx, registry, publishing=False) if working else None
        front: list[Component] = [api, *components(app), *([manager] if manager else [])]
        running = asyncio.ensure_future(
            run_until_stopped([ctx.listener, ctx.notifier], front, stop=stop, logger=ctx.loggers.app)
        )
        try:
            await unless_stopped(api.started.wait(), stop)
            yield PrivateService(ctx, f"http://127.0.0.1:{api.port}")
        finally:
            stop.set()
            if manager is not None:
                manager.hand_over_now()
            await running
