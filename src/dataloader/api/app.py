"""The application: for a process that has a context already, or on its own under `uvicorn --factory`."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from types import FrameType

from fastapi import FastAPI

from dataloader.api import docs_page, errors, metric_router, openapi, os_router
from dataloader.api.middleware import RequestMiddleware
from dataloader.api.services import Services, WorkerFacts, build
from dataloader.api.v1 import fleet_router, router, trigger_router
from dataloader.base import Component, supervise
from dataloader.config import load_settings
from dataloader.context import AppContext, open_context
from dataloader.storage.migrate import check_version, migrate
from dataloader.workers.pipelines.registry import Registry, load_all


def create_app(
    ctx: AppContext | None = None, *, registry: Registry | None = None, worker_facts: WorkerFacts | None = None
) -> FastAPI:
    """Build the application.

    Args:
        ctx: The process's context, whose listener and notifier somebody runs, and `components` beside them. None: the
            application reads the settings and opens and runs all of that itself, between its start and its end.
        registry: Tasks of this process; None: the built-in ones, those of packages and of DL_PIPELINES.
        worker_facts: What `/status` says of the workers in this process.
    """
    app = openapi.DescribedApp(
        title="Dataloader",
        version=version("dataloader"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_tags=openapi.TAGS,
        description=openapi.DESCRIPTION,
        lifespan=_own_life if ctx is None else None,
        generate_unique_id_function=lambda route: route.name,
        # Found at once: an included router looks for a route twice.
        routes=trigger_router.router.routes,
    )
    app.state.registry = registry
    if ctx is not None:
        _equip(app, ctx, load_all(ctx.settings.dl_pipelines) if registry is None else registry, worker_facts)
    errors.install(app)
    for part in (router, fleet_router, os_router, metric_router, docs_page):
        app.include_router(part.router)
    app.add_middleware(RequestMiddleware, context=lambda: app.state.services.ctx)
    return app


def components(app: FastAPI) -> list[Component]:
    """Return what must run for the application beside its server."""
    services: Services = app.state.services
    return [services.waiter, services.desk]


def _equip(app: FastAPI, ctx: AppContext, registry: Registry, worker_facts: WorkerFacts | None) -> None:
    app.state.services = build(ctx, registry, worker_facts=worker_facts)


@asynccontextmanager
async def _before_signals(call: Callable[[], None]) -> AsyncIterator[None]:
    """Call something on this loop before the server's own handler of SIGTERM and SIGINT.

    uvicorn waits for open requests before it ends the application's life, so that long-polls must be let go earlier.
    """
    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    if threading.current_thread() is not threading.main_thread() or not all(map(callable, handlers.values())):
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(call)
        handler = handlers[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    for number in handlers:
        signal.signal(number, on_signal)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@asynccontextmanager
async def _own_life(app: FastAPI) -> AsyncIterator[None]:
    settings = load_settings()
    async with open_context(settings) as ctx:
        if settings.dl_auto_migrate:
            await migrate(settings)
        await check_version(ctx.engine, settings.pg_schema)
        _equip(app, ctx, app.state.registry or load_all(settings.dl_pipelines), None)
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group, _before_signals(app.state.services.waiter.release):
            group.create_task(supervise([ctx.listener, ctx.notifier, *components(app)], stop))
            yield
            stop.set()
