"""Orders for faults: a file per seam, which the first process that comes by takes away and obeys."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

FAULTS = "faults"
"""Folder of the orders, below that of the processes."""

LEDGER = "ledger"
"""File of what the pipelines tried."""


class Action(StrEnum):
    """What a fail point does to its process."""

    KILL = "SIGKILL"
    FREEZE = "SIGSTOP"
    CUT = "cut"
    DROP = "answer dropped"
    RAISE = "error"
    REFUSE = "passing error"


HEAVY = frozenset({Action.KILL, Action.FREEZE, Action.RAISE})
"""Faults that cost a process, or its time."""


@dataclass(frozen=True, slots=True)
class Order:
    """A fault to be committed once.

    Attributes:
        number: Names it in the ledger of faults.
        seam: Where.
        action: What.
    """

    number: int
    seam: str
    action: Action


class Orders:
    """The folder in which orders lie, and the ledger of those that were obeyed.

    Args:
        folder: Shared by the controller, the processes under test and the proxy.
    """

    def __init__(self, folder: Path) -> None:
        self._open = folder / "open"
        self._taken = folder / "taken"
        self._drops = folder / "drops"
        self._ledger = folder / "fired"
        self._read = 0
        for one in (self._open, self._taken, self._drops):
            one.mkdir(parents=True, exist_ok=True)

    def give(self, order: Order) -> None:
        """Lay an order down; there is at most one per seam."""
        draft = self._taken / f"draft-{order.number}"
        draft.write_text(f"{order.number} {order.action.value}")
        draft.rename(self._open / order.seam)

    def withdraw(self, order: Order) -> bool:
        """Take an order back; return whether it still lay there."""
        try:
            (self._open / order.seam).unlink()
        except FileNotFoundError:
            return False
        return True

    def lies(self, seam: str) -> bool:
        """Return whether an order waits at a seam; cheap, since every passage asks."""
        return os.access(self._open / seam, os.F_OK)

    def take(self, seam: str) -> Order | None:
        """Take the order of a seam, if nobody else was faster, and write it down before it is obeyed."""
        mine = self._taken / f"{seam}.{os.getpid()}.{time.monotonic_ns()}"
        try:
            (self._open / seam).rename(mine)
        except FileNotFoundError:
            return None
        number, _, action = mine.read_text().partition(" ")
        order = Order(int(number), seam, Action(action))
        self.note(number=order.number, seam=seam, action=order.action.value, pid=os.getpid())
        return order

    def note(self, **facts: object) -> None:
        """Append a line to the ledger of faults."""
        append(self._ledger, **facts)

    def news(self) -> Iterator[dict[str, Any]]:
        """Return what was written since the last call."""
        if not self._ledger.exists():
            return
        with self._ledger.open("rb") as ledger:
            ledger.seek(self._read)
            for line in ledger:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield json.loads(line)

    def drop_answer_to(self, backend: int, number: int) -> None:
        """Ask the proxy to lose the next answer of a server process that says "committed"."""
        (self._drops / str(backend)).write_text(str(number))

    def wants_drop(self, backend: int) -> bool:
        """Return whether an answer of this server process is to be lost."""
        return os.access(self._drops / str(backend), os.F_OK)

    def dropped(self, backend: int, *, really: bool) -> None:
        """Clear the request; write it down if it was done."""
        request = self._drops / str(backend)
        if request.exists():
            if really:
                self.note(dropped=int(request.read_text()))
            request.unlink()


def append(path: Path, **facts: object) -> None:
    """Append a JSON line in one write, so that it survives the process at any moment."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps({"at_s": time.time()} | facts) + "\n").encode())
    finally:
        os.close(descriptor)
