"""Commits the faults of a storm in a seeded order, each cell of the matrix at least once."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.matrix.orders import HEAVY, Action, Order, Orders
from tests.chaos.matrix.outside import FAULTS, Outside
from tests.chaos.matrix.seams import BY_NAME, Provocation, cells
from tests.chaos.matrix.service import Service

PATIENCE_S = 6.0
TRIES = 8
_LOOK_S = 0.02

Cell = tuple[str, Action]


@dataclass
class Done:
    """What has been committed.

    Attributes:
        cells: Faults of the matrix.
        outside: Faults from outside.
        missed: Cells that no process came by in time, however often they were tried.
    """

    cells: Counter[Cell] = field(default_factory=Counter)
    outside: Counter[str] = field(default_factory=Counter)
    missed: list[Cell] = field(default_factory=list)

    def kinds(self) -> Counter[str]:
        """Count the faults by kind."""
        kinds: Counter[str] = Counter()
        for (_, action), count in self.cells.items():
            kinds[f"{action.value} in a seam"] += count
        return kinds + self.outside

    def total(self) -> int:
        """Count the faults."""
        return self.cells.total() + self.outside.total()


class Nemesis:
    """Strikes in several lanes at once, evenly over the time given.

    Args:
        orders: Where faults are ordered.
        service: What they are committed on.
        outside: Commits those that need no fail point.
        cancel: Cancels jobs that run.
        burst: Triggers many jobs at once.
        chance: The randomness of this storm.
        lease_s: Lease of a job; who is frozen stays so for longer.
    """

    def __init__(
        self,
        orders: Orders,
        service: Service,
        outside: Outside,
        *,
        cancel: Callable[[], Awaitable[None]],
        burst: Callable[[], Awaitable[None]],
        chance: random.Random,
        lease_s: float,
    ) -> None:
        self._orders = orders
        self._service = service
        self._outside = outside
        self._cancel = cancel
        self._burst = burst
        self._chance = chance
        self._lease_s = lease_s
        self._number = 0
        self._fired: dict[int, int] = {}
        self._dropped: set[int] = set()
        self._busy: set[str] = set()
        self.done = Done()

    async def run(self, *, rounds: int, duration_s: float) -> None:
        """Commit every cell `rounds` times, light ones twice as often, and the faults from outside."""
        everything = [cell for cell in cells() for _ in range(rounds)]
        heavy = self._shuffled([cell for cell in everything if cell[1] in HEAVY])
        light = self._shuffled([cell for cell in everything if cell[1] not in HEAVY for _ in range(2)])
        outside = self._shuffled([name for name, count in FAULTS.items() for _ in range(count * rounds)])
        halves = heavy[::2], heavy[1::2]
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(self._read())
            async with asyncio.TaskGroup() as striking:
                for lane in (*halves, light):
                    striking.create_task(self._lane(lane, duration_s))
                striking.create_task(self._strike_from_outside(outside, duration_s))
            reading.cancel()

    def _shuffled(self, faults: list[Any]) -> list[Any]:
        self._chance.shuffle(faults)
        return faults

    async def _lane(self, plan: list[Cell], duration_s: float) -> None:
        tries: Counter[Cell] = Counter()
        began_s, count = time.monotonic(), len(plan)
        while plan:
            place = next((n for n, (seam, _) in enumerate(plan) if seam not in self._busy), None)
            if place is None:
                await asyncio.sleep(_LOOK_S)
                continue
            cell = plan.pop(place)
            if await self._strike(*cell):
                self.done.cells[cell] += 1
                await self._pace(began_s, count - len(plan), count, duration_s)
            elif tries[cell] < TRIES:
                tries[cell] += 1
                plan.insert(min(3, len(plan)), cell)
            else:
                self.done.missed.append(cell)

    async def _strike_from_outside(self, plan: Sequence[str], duration_s: float) -> None:
        began_s = time.monotonic()
        for number, name in enumerate(plan, 1):
            self.done.outside[name] += await self._outside.strike(name)
            await self._pace(began_s, number, len(plan), duration_s)

    async def _pace(self, began_s: float, done: int, of: int, duration_s: float) -> None:
        await asyncio.sleep(max(began_s + duration_s * done / of - time.monotonic(), 0))

    async def _strike(self, seam: str, action: Action) -> bool:
        """Order a fault and see it through; return whether it was committed."""
        self._busy.add(seam)
        try:
            self._number += 1
            order = Order(self._number, seam, action)
            self._orders.give(order)
            if not await self._obeyed(order):
                return False
            return await self._lived_through(order)
        finally:
            self._busy.discard(seam)

    async def _obeyed(self, order: Order) -> bool:
        until_s = time.monotonic() + PATIENCE_S
        provoked_s = 0.0
        while not await self._soon(lambda: order.number in self._fired, 1.0):
            if time.monotonic() > until_s and self._orders.withdraw(order):
                return False
            if (provocation := BY_NAME[order.seam].provoked) and time.monotonic() > provoked_s:
                await self._provoke(provocation)
                provoked_s = time.monotonic() + PATIENCE_S / 2
        return True

    async def _provoke(self, provocation: Provocation) -> None:
        match provocation:
            case Provocation.RESTART:
                await self._outside.strike("worker SIGTERM")
            case Provocation.CUT_LISTENERS:
                await self._outside.strike("listener terminated")
            case Provocation.CANCEL:
                await self._cancel()
            case Provocation.BURST:
                await self._burst()
            case Provocation.KILL:
                await self._outside.strike("worker SIGKILL")
            case Provocation.CUT_ANY:
                await self._outside.strike("backend terminated")

    async def _lived_through(self, order: Order) -> bool:
        pid = self._fired[order.number]
        match order.action:
            case Action.DROP:
                return await self._soon(lambda: order.number in self._dropped, PATIENCE_S)
            case Action.FREEZE:
                await asyncio.sleep(self._lease_s + self._chance.uniform(0.3, 1.5))
                self._service.thaw(pid)
            case Action.KILL | Action.RAISE:
                await self._soon(self._whole, PATIENCE_S)
        return True

    def _whole(self) -> bool:
        return all(slot.ready for slot in self._service.slots)

    async def _soon(self, happened: Callable[[], bool], within_s: float) -> bool:
        until_s = time.monotonic() + within_s
        while not happened():
            if time.monotonic() > until_s:
                return False
            await asyncio.sleep(_LOOK_S)
        return True

    async def _read(self) -> None:
        """Follow the ledger of faults."""
        while True:
            for note in self._orders.news():
                if "dropped" in note:
                    self._dropped.add(note["dropped"])
                else:
                    self._fired[note["number"]] = note["pid"]
                    self._service.blamed[note["pid"]][note["action"]] += 1
            await asyncio.sleep(_LOOK_S)
