"""The one protocol of background parts, and the one supervisor that holds them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol


class Component(Protocol):
    """A background part that runs until it is told to stop.

    `run` returns soon after `stop` is set, having given back what it held. Any other return, and any exception, is
    an unexpected death and ends the process.
    """

    @property
    def name(self) -> str:
        """Name in logs and task lists."""
        ...

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set."""
        ...


class Settable(Protocol):
    """An event, or whatever else wakes a waiter."""

    def set(self) -> None:
        """Wake it."""


class UnexpectedExitError(Exception):
    """A component returned although nobody asked it to stop."""


async def supervise(components: Iterable[Component], stop: asyncio.Event) -> None:
    """Run components side by side until `stop` is set and all of them have returned.

    Raises:
        ExceptionGroup: When a component dies; the others are cancelled first.
    """
    async with asyncio.TaskGroup() as group:
        for component in components:
            group.create_task(_guard(component, stop), name=component.name)


async def _guard(component: Component, stop: asyncio.Event) -> None:
    await component.run(stop)
    if not stop.is_set():
        raise UnexpectedExitError(f"{component.name} ended by itself")


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Wait until `event` is set or the time is up; return whether it is set."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


async def first_of(*events: asyncio.Event, timeout_s: float | None = None) -> None:
    """Wait until one of `events` is set or the time is up."""
    async with asyncio.TaskGroup() as group:
        waiters = [group.create_task(event.wait()) for event in events]
        await asyncio.wait(waiters, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiters:
            waiter.cancel()


@asynccontextmanager
async def relayed(event: asyncio.Event, to: Settable) -> AsyncIterator[None]:
    """For the time of the block, set another event too when this one is set: who waits for both waits for one."""

    async def relay() -> None:
        await event.wait()
        to.set()

    relaying = asyncio.create_task(relay())
    try:
        yield
    finally:
        relaying.cancel()
