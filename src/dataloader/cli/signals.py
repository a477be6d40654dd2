"""Signals: the first asks for an orderly end, the second hurries it, the third ends the process."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Shutdown:
    """The process's wish to end.

    Args:
        limit_s: So long after the first signal the process ends itself, whatever holds it.
        exit_now: Ends the process with a code, on the spot.

    Attributes:
        stop: Set by the first signal.
        on_hurry: Called at the second signal.
        on_change: Told in words what each signal leads to.
    """

    def __init__(self, *, limit_s: float, exit_now: Callable[[int], object] = os._exit) -> None:
        self.stop = asyncio.Event()
        self.on_hurry: Callable[[], None] = _nothing
        self.on_change: Callable[[str], object] = _nothing_about
        self._exit_now = exit_now
        self._received = 0
        self._limit = threading.Timer(limit_s, exit_now, (1,))
        self._limit.daemon = True

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Take over the signals while the body runs; needs the running loop of the main thread."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.receive, number)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
            self._limit.cancel()

    def receive(self, number: int) -> None:
        """Take one signal."""
        self._received += 1
        match self._received:
            case 1:
                self._limit.start()
                self.on_change("stopping")
                self.stop.set()
            case 2:
                self.on_change("stopping now, running jobs are handed over")
                self.on_hurry()
            case _:
                self._exit_now(128 + number)


def _nothing() -> None:
    """Be what is done while there is nothing to hurry."""


def _nothing_about(_: str) -> None:
    """Be told before there is a log."""
