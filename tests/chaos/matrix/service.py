"""The processes of the storm: started anew whenever one ends, and asked why when nobody ended it."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.matrix.orders import Action
from tests.chaos.processes import Fleet, ServiceProcess
from tests.workers.harness import eventually

QUEUES = {"bulk": 150, "chaos": 8}
PIPELINES = "tests.chaos.matrix.pipelines"
TERM = "SIGTERM"
_LOOK_S = 0.05
_READY = {"worker": "workers started", "api": "api listening"}


@dataclass
class Slot:
    """A place for a process that is always filled again."""

    command: str
    settings: dict[str, Any]
    process: ServiceProcess
    ready: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended."""

    command: str
    pid: int
    code: int
    log: str


def explained(code: int, blamed: Counter[str]) -> bool:
    """Return whether what was done to a process, and how often, explains the code it ended with.

    The first SIGTERM asks for an orderly end, which a freeze can make late; the third ends the process on the spot.
    """
    causes = {
        0: blamed[TERM] > 0,
        1: blamed[Action.RAISE.value] > 0 or (blamed[TERM] > 0 and blamed[Action.FREEZE.value] > 0),
        128 + signal.SIGTERM: blamed[TERM] > 2,
        -signal.SIGTERM: blamed[TERM] > 0,
        -signal.SIGKILL: blamed[Action.KILL.value] > 0,
    }
    return causes.get(code, False)


@dataclass
class Service:
    """Workers and APIs.

    Attributes:
        blamed: What was done to each process, by pid, and how often.
        ended: Every end of a process.
    """

    fleet: Fleet
    host: str
    slots: list[Slot] = field(default_factory=list)
    blamed: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    ended: list[Ended] = field(default_factory=list)

    def start(self, *, workers: int, apis: int) -> list[str]:
        """Start the processes; return where the APIs will listen."""
        ports = [_free_port() for _ in range(apis)]
        for _ in range(workers):
            self._fill("worker", {"pg_pool_size": 6})
        for port in ports:
            self._fill("api", {"app_port": port, "pg_pool_size": 4})
        return [f"http://127.0.0.1:{port}" for port in ports]

    async def keep(self, stop: asyncio.Event) -> None:
        """Fill places whose process has ended, until told to stop."""
        while not stop.is_set():
            for slot in self.slots:
                self._look(slot)
            await asyncio.sleep(_LOOK_S)

    async def is_whole(self) -> bool:
        """Return whether every process works."""
        return all(slot.ready for slot in self.slots)

    def pick(self, command: str, chance: random.Random) -> ServiceProcess:
        """Return a process of a kind; if possible one that works."""
        slots = [slot for slot in self.slots if slot.command == command]
        return chance.choice([slot for slot in slots if slot.ready] or slots).process

    def signal(self, process: ServiceProcess, number: signal.Signals) -> None:
        """Send a signal and remember it."""
        if number is not signal.SIGCONT:
            self.blamed[process.pid][number.name] += 1
        process.signal(number)

    def thaw(self, pid: int) -> None:
        """Let a process that stopped itself go on; if it is still one of ours."""
        for slot in self.slots:
            if slot.process.pid == pid:
                slot.process.signal(signal.SIGCONT)

    async def end(self) -> None:
        """End all processes in order."""
        for slot in self.slots:
            self.signal(slot.process, signal.SIGTERM)
        await eventually(self._all_have_ended, within_s=60)
        for slot in self.slots:
            self._note_end(slot)

    def unexplained(self) -> list[Ended]:
        """Return ends of processes that nothing was done to which explains them."""
        return [one for one in self.ended if not explained(one.code, self.blamed[one.pid])]

    async def _all_have_ended(self) -> bool:
        return all(slot.process.exit_code is not None for slot in self.slots)

    def _look(self, slot: Slot) -> None:
        if slot.process.exit_code is not None:
            self._note_end(slot)
            slot.process, slot.ready = self._start(slot.command, slot.settings), False
        elif not slot.ready:
            slot.ready = bool(slot.process.lines(_READY[slot.command]))

    def _note_end(self, slot: Slot) -> None:
        process = slot.process
        assert process.exit_code is not None
        self.ended.append(Ended(slot.command, process.pid, process.exit_code, process.log()[-6_000:]))

    def _fill(self, command: str, settings: dict[str, Any]) -> None:
        self.slots.append(Slot(command, settings, self._start(command, settings)))

    def _start(self, command: str, settings: dict[str, Any]) -> ServiceProcess:
        return self.fleet.start(command, queues=QUEUES, dl_pipelines=PIPELINES, pg_host=self.host, **settings)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
