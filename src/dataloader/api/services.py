"""The use cases of one application, built once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from dataloader.api.database import Database
from dataloader.api.v1.desk import TriggerDesk
from dataloader.api.v1.fleet_service import FleetService
from dataloader.api.v1.known_tasks import KnownTasks
from dataloader.api.v1.service import JobService
from dataloader.api.v1.wakeups import WakeUps
from dataloader.api.waiter import JobWaiter
from dataloader.context import AppContext
from dataloader.storage.repositories.catalogue import CatalogueRepository
from dataloader.storage.repositories.jobs import JobsRepository
from dataloader.workers.pipelines.registry import Registry

PREFIX = "/api/v1"
WorkerFacts = Callable[[], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes call.

    Attributes:
        worker_facts: What `/status` says of the workers in this process, None without workers.
    """

    ctx: AppContext
    database: Database
    waiter: JobWaiter
    desk: TriggerDesk
    jobs: JobService
    fleet: FleetService
    catalogue: CatalogueRepository
    worker_facts: WorkerFacts | None = None


def build(ctx: AppContext, registry: Registry, *, worker_facts: WorkerFacts | None = None) -> Services:
    """Put the use cases together for a process."""
    schema, logger = ctx.settings.pg_schema, ctx.loggers.app
    database = Database(ctx.engine, logger=logger, metrics=ctx.metrics)
    catalogue = CatalogueRepository(schema)
    waiter = JobWaiter(database, JobsRepository(schema), ctx.listener)
    wakeups = WakeUps(ctx, database)
    desk = TriggerDesk(ctx, database)
    tasks = KnownTasks(registry, database=database, catalogue=catalogue, logger=logger)
    return Services(
        ctx=ctx,
        database=database,
        waiter=waiter,
        desk=desk,
        jobs=JobService(ctx, database=database, desk=desk, tasks=tasks, waiter=waiter, wakeups=wakeups),
        fleet=FleetService(ctx, registry, database=database, wakeups=wakeups),
        catalogue=catalogue,
        worker_facts=worker_facts,
    )


def services_of(request: Request) -> Services:
    """Return the services of the application that got this request."""
    services: Services = request.app.state.services
    return services


def actor_of(request: Request) -> str:
    """Return who asks, for the audit log."""
    return f"http:{request.client.host if request.client else 'unknown'}"


# Dependencies are coroutines: FastAPI would call a plain function in a thread.
async def _all(request: Request) -> Services:
    return services_of(request)


async def _jobs(request: Request) -> JobService:
    return services_of(request).jobs


async def _fleet(request: Request) -> FleetService:
    return services_of(request).fleet


async def _actor(request: Request) -> str:
    return actor_of(request)


Jobs = Annotated[JobService, Depends(_jobs)]
Fleet = Annotated[FleetService, Depends(_fleet)]
Actor = Annotated[str, Depends(_actor)]
All = Annotated[Services, Depends(_all)]
