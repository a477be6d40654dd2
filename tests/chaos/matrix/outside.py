"""Faults that need no fail point: signals, and connections ended on the server."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping
from typing import Any

from tests.chaos.matrix.service import Service

FAULTS: Mapping[str, int] = {
    "backend terminated": 20,
    "chunk terminated": 10,
    "listener terminated": 6,
    "every connection terminated": 3,
    "worker SIGTERM": 8,
    "worker SIGTERM twice": 3,
    "worker SIGKILL": 3,
    "worker SIGSTOP": 3,
    "api SIGTERM": 2,
    "api SIGKILL": 2,
}
"""Faults, and how often each is committed in a round."""

_END = """
select count(pg_terminate_backend(pid)) from (
  select pid from pg_stat_activity
   where datname = current_database() and pid <> pg_backend_pid() and application_name like any ($1::text[])
   order by random() limit $2) picked
"""
_CONNECTIONS: Mapping[str, tuple[list[str], int]] = {
    "backend terminated": (["dataloader %", "dl/%"], 1),
    "chunk terminated": (["dl/%"], 1),
    "listener terminated": (["dataloader listener"], 100),
    "every connection terminated": (["dataloader %", "dl/%"], 1_000),
}


class Outside:
    """Commits one fault after the other.

    Args:
        service: Whose processes get signals.
        pg: A connection past the proxy.
        chance: The randomness of this storm.
        lease_s: Who is frozen stays so for longer.
    """

    def __init__(self, service: Service, pg: Any, *, chance: random.Random, lease_s: float) -> None:
        self._service = service
        self._pg = pg
        self._chance = chance
        self._lease_s = lease_s
        self._turn = asyncio.Lock()

    async def strike(self, name: str) -> bool:
        """Commit a fault; return whether there was anything to commit it on."""
        if name in _CONNECTIONS:
            async with self._turn:
                return bool(await self._pg.fetchval(_END, *_CONNECTIONS[name]))
        command, _, how = name.partition(" ")
        process = self._service.pick(command, self._chance)
        if process.exit_code is not None:
            return False
        await self._signal(process, how)
        return True

    async def _signal(self, process: Any, how: str) -> None:
        match how:
            case "SIGTERM twice":
                self._service.signal(process, signal.SIGTERM)
                await asyncio.sleep(self._chance.uniform(0, 0.3))
                self._service.signal(process, signal.SIGTERM)
            case "SIGSTOP":
                self._service.signal(process, signal.SIGSTOP)
                await asyncio.sleep(self._lease_s + self._chance.uniform(0.3, 1.5))
                self._service.signal(process, signal.SIGCONT)
            case _:
                self._service.signal(process, signal.Signals[how])
