"""What tests of the API share: an application with its parts running, and jobs moved by hand as a worker would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID, uuid4

import httpx2
from fastapi import FastAPI
from pydantic import BaseModel, Field

from dataloader.api.app import components, create_app
from dataloader.base import supervise
from dataloader.config import Settings
from dataloader.context import AppContext, open_context
from dataloader.domain.jobs import ClaimedJob
from dataloader.domain.outcomes import Outcome, Succeeded, settlement
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.queue import Claim, QueueRepository
from dataloader.workers.pipelines.registry import Registry, register

API = "/api/v1"
TASKS = ("any.echo", "demo.load", "broken.check")


class LoadArgs(BaseModel):
    """Arguments of the demo task."""

    day: date
    rows: int = Field(default=1, ge=1)


class BrokenArgs(BaseModel):
    """Arguments whose check has a fault of its own."""

    x: int = 0

    def model_post_init(self, _: object) -> None:
        """Fail in a way that Pydantic does not translate."""
        raise KeyError("s3cret-in-a-validator")


def make_registry() -> Registry:
    """Return a registry with one task for any queue, one for one queue, and one whose check is broken."""
    registry = Registry()

    @register("any.echo", registry=registry)
    async def echo(args: dict[str, object]) -> AsyncGenerator[None, None]:
        """Take anything."""
        yield

    @register("demo.load", queue="load.demo", registry=registry)
    async def load(args: LoadArgs) -> AsyncGenerator[None, None]:
        """Load a day."""
        yield

    @register("broken.check", registry=registry)
    async def broken(args: BrokenArgs) -> AsyncGenerator[None, None]:
        """Never gets here."""
        yield

    return registry


@dataclass
class Scene:
    """A running application and a client of it."""

    ctx: AppContext
    app: FastAPI
    client: httpx2.AsyncClient
    stop: asyncio.Event
    worker_id: UUID = field(default_factory=uuid4)

    async def trigger(self, **request: object) -> UUID:
        """Trigger a job and return its id."""
        answer = await self.client.post(f"{API}/jobs/trigger", json={"queue": "q", "task": "any.echo"} | request)
        assert answer.status_code in {200, 201}, answer.text
        return UUID(answer.json()["job_id"])

    async def get(self, path: str, **query: str) -> httpx2.Response:
        """Get a path below the API."""
        return await self.client.get(f"{API}{path}", params=query)

    async def post(self, path: str, json: object = None) -> httpx2.Response:
        """Post to a path below the API, without a body when `json` is None."""
        return await self.client.post(f"{API}{path}", json=json)

    async def claim(self, queue: str = "q", limit: int = 1) -> list[ClaimedJob]:
        """Claim jobs as a worker would."""
        async with self._connection() as connection:
            return await self._queue().claim(
                connection, Claim(queue, TASKS, limit, self.worker_id, idle=True), actor=f"worker:{self.worker_id}"
            )

    async def settle(self, jobs: Iterable[ClaimedJob], outcome: Outcome | None = None) -> None:
        """End runs as a worker would, and say so."""
        settled = [settlement(job.lease, outcome or Succeeded(), None) for job in jobs]
        async with self._connection() as connection:
            await self._queue().settle(connection, [one for one in settled if one is not None], actor="test")
        self.ctx.notifier.announce(["done"])

    def _queue(self) -> QueueRepository:
        return QueueRepository(self.ctx.settings.pg_schema, lease_s=60)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        connection = await connect(self.ctx.settings, purpose="test")
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def opened(settings: Settings, registry: Registry | None = None) -> AsyncIterator[Scene]:
    """Run an application until the end of the block."""
    stop = asyncio.Event()
    async with open_context(settings) as ctx, asyncio.TaskGroup() as group:
        app = create_app(ctx, registry=registry or make_registry())
        group.create_task(supervise([ctx.listener, ctx.notifier, *components(app)], stop))
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield Scene(ctx, app, client, stop)
        stop.set()


async def until_waiting(scene: Scene, count: int = 1) -> None:
    """Return once that many requests wait for jobs to end."""
    async with asyncio.timeout(5):
        while scene.app.state.services.waiter.waiting < count:
            await asyncio.sleep(0)
