"""A service that answers from a script and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from aiohttp import web
from aiohttp.test_utils import TestServer

JOB_ID = UUID("019a2f6e-5c1b-7d3e-9f00-1a2b3c4d5e6f")
AT = "2026-01-31T08:00:00Z"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: list[tuple[str, str]]
    body: object


@dataclass(slots=True)
class Stub:
    """The script and the memory.

    Attributes:
        script: Answers in order as status, document and headers; the last one is given again and again.
    """

    url: str = ""
    script: list[tuple[int, object, dict[str, str]]] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def answer(self, document: object, status: int = 200, **headers: str) -> None:
        """Add an answer; header names are written with underscores."""
        self.script.append((status, document, {name.replace("_", "-"): text for name, text in headers.items()}))

    def problem(self, status: int, code: str, detail: str, **more: object) -> None:
        """Add a refusal."""
        self.answer(
            {"type": "about:blank", "title": "No", "status": status, "detail": detail, "code": code, **more}, status
        )

    async def handle(self, request: web.Request) -> web.Response:
        """Answer from the script."""
        text = await request.text()
        self.asked.append(Asked(request.method, request.path, list(request.query.items()), json.loads(text or "null")))
        status, document, headers = self.script[min(len(self.asked), len(self.script)) - 1]
        if document is None:
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(document, status=status, headers=headers)


@asynccontextmanager
async def running_stub() -> AsyncIterator[Stub]:
    """Serve a stub on a port of its own."""
    stub = Stub()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", stub.handle)
    async with TestServer(app) as server:
        stub.url = str(server.make_url("")).rstrip("/")
        yield stub


def job_state(status: str = "running", **more: object) -> dict[str, object]:
    """Return a status answer."""
    return {
        "job_id": str(JOB_ID),
        "queue": "noop",
        "task": "noop",
        "status": status,
        "attempt": 1,
        "max_attempts": 5,
        "losses": 0,
        "cancel_requested": False,
        "created_at": AT,
        "available_at": AT,
        "started_at": AT,
        "heartbeat_at": AT,
        "finished_at": None,
        "progress": None,
        "error": None,
        "result": None,
    } | more


def job_summary(job_id: UUID = JOB_ID, **more: object) -> dict[str, object]:
    """Return a job as a list shows it."""
    state = {name: value for name, value in job_state().items() if name != "result"}
    extra: dict[str, object] = {
        "priority": 100,
        "lock_key": None,
        "partition_key": None,
        "labels": {},
        "created_by": None,
    }
    return state | extra | {"job_id": str(job_id)} | more


def task(name: str, queue: str | None, **more: object) -> dict[str, object]:
    """Return a task as the list shows it."""
    return {
        "task": name,
        "queue": queue,
        "doc": "Do it.",
        "args_schema": None,
        "options": {},
        "on_partition_failure": "skip",
    } | more
