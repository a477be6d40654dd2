"""Endpoints for whoever operates the process: is it alive, and is it ready?"""

from __future__ import annotations

import time
from functools import lru_cache
from http import HTTPStatus
from importlib.metadata import version

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from dataloader.api.problems import documented
from dataloader.api.services import All, Services
from dataloader.exceptions import DataloaderError
from dataloader.storage.migrate import head_version

READY_BUDGET_S = 2.5

router = APIRouter(tags=["operation"])


class Health(BaseModel):
    """The process answers."""

    status: str = Field(examples=["ok"])


class DatabaseStatus(BaseModel):
    """Whether the database can be used."""

    ok: bool = Field(description="Reachable, and its schema fits.")
    reachable: bool
    schema_version: str | None = Field(description="Version of the database's schema.", examples=["0001"])
    schema_needed: str = Field(description="Version that this process needs.", examples=["0001"])
    latency_ms: float | None
    problem: str | None = Field(description="Why it cannot be used.")


class ListenerStatus(BaseModel):
    """Whether notifications are heard; without them polls do the same work a little later."""

    connected: bool


class Status(BaseModel):
    """What the process is, and whether it is ready for requests."""

    version: str = Field(examples=["0.1.0"])
    uptime_s: float
    process_id: str = Field(description="New at every start; names this process in leases and in the audit log.")
    ready: bool
    database: DatabaseStatus
    listener: ListenerStatus
    workers: dict[str, object] | None = Field(description="The workers in this process; null when it has none.")


@router.get("/health", summary="Is the process alive?", responses=documented(500))
async def health() -> Health:
    """Answers as long as the process does; touches no database."""
    return Health(status="ok")


@router.get(
    "/status",
    summary="Is the process ready?",
    responses={
        200: {"description": "It is ready."},
        503: {"model": Status, "description": "It is not ready; the answer says why."},
        **documented(500),
    },
)
async def status(services: All, response: Response) -> Status:
    """Version, time since the start, and readiness in detail."""
    ctx = services.ctx
    database = await _database(services)
    response.status_code = HTTPStatus.OK if database.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Status(
        version=version("dataloader"),
        uptime_s=round(time.monotonic() - ctx.started_s, 3),
        process_id=str(ctx.process_id),
        ready=database.ok,
        database=database,
        listener=ListenerStatus(connected=ctx.listener.connected),
        workers=None if services.worker_facts is None else dict(services.worker_facts()),
    )


async def _database(services: Services) -> DatabaseStatus:
    needed = _needed()
    started_s = time.perf_counter()
    try:
        async with services.database.reading(READY_BUDGET_S) as connection:
            current = await services.catalogue.schema_version(connection)
    except DataloaderError as error:
        return DatabaseStatus(
            ok=False, reachable=False, schema_version=None, schema_needed=needed, latency_ms=None, problem=error.message
        )
    fits = current is not None and current >= needed
    return DatabaseStatus(
        ok=fits,
        reachable=True,
        schema_version=current,
        schema_needed=needed,
        latency_ms=round((time.perf_counter() - started_s) * 1000, 2),
        problem=None if fits else "The schema is missing or older than this version; run `dataloader migrate`",
    )


@lru_cache(maxsize=1)
def _needed() -> str:
    return head_version()
