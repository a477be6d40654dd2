"""A receiver of events on this machine, which can refuse, and hang until it is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.lineage.rules import Event
from tests.workers.harness import eventually

HANG = 0


class Receiver:
    """Takes events; answers with `answers` first, HANG standing for none until `freed`, then with 201.

    Attributes:
        events: What it took.
        asked: How often it was asked.
        tokens: What was sent as authorization.
        elsewhere: How often it was asked where a redirect leads.
        delay_s: How long it takes for each event.
    """

    def __init__(self, *answers: int, delay_s: float = 0) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []
        self.asked = 0
        self.tokens: set[str | None] = set()
        self.elsewhere = 0
        self.delay_s = delay_s
        self.freed = asyncio.Event()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take one event."""
        self.asked += 1
        self.tokens.add(request.headers.get("Authorization"))
        event = await request.json()
        status = self.answers.pop(0) if self.answers else 201
        if status == HANG:
            await self.freed.wait()
            status = 201
        await asyncio.sleep(self.delay_s)
        if status < 300:
            self.events.append(event)
        return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else {})

    async def stray(self, _request: web.Request) -> web.Response:
        """Count what was sent to where a redirect leads."""
        self.elsewhere += 1
        return web.Response(status=201)

    @property
    def ends(self) -> int:
        """How many runs have ended, as far as it was told."""
        ended = {"COMPLETE", "FAIL", "ABORT"}
        return len({event["run"]["runId"] for event in self.events if event["eventType"] in ended})

    async def hears(self, ends: int) -> list[Event]:
        """Wait until so many ends of runs have been told; return all events."""

        async def heard() -> bool:
            return self.ends >= ends

        await eventually(heard)
        return self.events

    async def is_asked(self, times: int) -> None:
        """Wait until it was asked so often."""

        async def was_asked() -> bool:
            return self.asked >= times

        await eventually(was_asked)


@asynccontextmanager
async def receiving(*answers: int, delay_s: float = 0, port: int = 0) -> AsyncIterator[Receiver]:
    """Serve a receiver, on a free port unless one is given."""
    receiver = Receiver(*answers, delay_s=delay_s)
    app = web.Application()
    app.router.add_post("/api/v1/lineage", receiver.take)
    app.router.add_post("/elsewhere", receiver.stray)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/lineage"
    try:
        yield receiver
    finally:
        await runner.cleanup()
