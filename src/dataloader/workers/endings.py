"""Runs of a queue that have ended, until their ends are written."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dataloader.domain.jobs import JobStatus, Lease
from dataloader.domain.outcomes import ENDS, Outcome, Settlement, Succeeded, settlement
from dataloader.storage.repositories.rows import Released
from dataloader.workers.fleet import Fleet
from dataloader.workers.periodic import Wake
from dataloader.workers.run_log import RunLog
from dataloader.workers.runs import Run

APART = 64
"""Fewest ended runs that are settled by a statement of their own, beside the next claim."""

Ending = tuple[Run, Outcome]


@dataclass(slots=True)
class Slots:
    """The slots of a queue's worker.

    Attributes:
        active: Those in use: by a run that runs, or whose end is not written yet.
    """

    concurrency: int
    active: int = 0


class Endings:
    """Writes how runs ended.

    A few ride on the worker's next exchange. Many are settled on a connection of their own, while the worker claims:
    the server does both at once, and this process reads one answer while the other one is being made.

    Args:
        fleet: What the workers of the process share.
        slots: Left once an end is written.
        log: Told what became of runs.
        wake: Wakes the worker.
    """

    def __init__(self, fleet: Fleet, slots: Slots, log: RunLog, wake: Wake) -> None:
        self._fleet = fleet
        self._slots = slots
        self._log = log
        self._wake = wake
        self._waiting: list[Ending] = []
        self._locked: list[Ending] = []
        self._apart: asyncio.Task[None] | None = None
        self._apart_failed = False
        self._under_way = 0

    def add(self, endings: Iterable[Ending]) -> None:
        """Take outcomes of runs. Only the first one of each counts."""
        for ending in endings:
            run = ending[0]
            if not run.ended:
                run.ended = True
                self._waiting.append(ending)
        self._wake.set()

    @property
    def leaving(self) -> int:
        """Runs whose ends are being written at this moment, beside the worker's exchange."""
        return self._under_way

    @property
    def busy(self) -> bool:
        """Whether rows that somebody else has locked wait to be tried again."""
        return bool(self._locked)

    @property
    def idle(self) -> bool:
        """Whether nothing waits for the worker's next exchange but busy rows."""
        return self._apart is not None or not self._waiting

    @property
    def failed(self) -> bool:
        """Whether the next `take` will raise what went wrong apart."""
        return self._apart is not None and self._apart.done() and self._apart.exception() is not None

    def take(self) -> list[Ending]:
        """Return what the worker's next exchange is to settle; a large batch goes apart instead.

        After a failure apart the exchange takes the batch along: the connection for large ones may be the only one that
        cannot be opened.

        Raises:
            Exception: What went wrong apart.
        """
        if self._apart is not None and self._apart.done():
            apart, self._apart = self._apart, None
            self._apart_failed = apart.exception() is not None
            apart.result()
        if self._apart is None and len(self._waiting) >= APART and not self._apart_failed:
            self._under_way = len(self._waiting)
            self._apart = asyncio.create_task(self._settle_apart(), name="settlements")
        batch, self._locked = self._locked, []
        if self._apart is None:
            batch += self._waiting
            self._waiting, self._apart_failed = [], False
        return batch

    def put_back(self, batch: list[Ending]) -> None:
        """Take a batch back whose ends could not be written."""
        self._waiting[:0] = batch

    async def written(self, batch: list[Ending], settled: list[Released], *, in_bulk: bool = False) -> None:
        """Free the slots of runs whose end is written, and wake what waits for them.

        A run whose row somebody else has locked is settled later. One that is missing from the answer may also have
        ended by an earlier try that broke off without one.
        """
        self._fleet.freed.offer(self._fleet.control.announce_end(settled, in_bulk=in_bulk))
        await self._sort_out(batch, {one.lease: one.status for one in settled})

    async def close(self) -> None:
        """Wait for nothing more."""
        if self._apart is not None:
            self._apart.cancel()
            await asyncio.gather(self._apart, return_exceptions=True)

    async def _settle_apart(self) -> None:
        try:
            while len(self._waiting) >= APART:
                batch, self._waiting = self._waiting, []
                plain = [one for one in batch if is_plain(*one)]
                others = [] if len(plain) == len(batch) else [one for one in batch if not is_plain(*one)]
                try:
                    self._under_way = len(batch)
                    if plain:
                        await self._complete(plain)
                    batch = others
                    self._under_way = len(others)
                    if others:
                        settlements, _ = parted(others)
                        exchanged = await self._fleet.settler.exchange(settlements, None)
                        await self.written(others, exchanged.settled, in_bulk=True)
                except BaseException:
                    self.put_back(batch)
                    raise
                finally:
                    self._under_way = 0
                self._wake.set()
        finally:
            self._wake.set()

    async def _complete(self, batch: list[Ending]) -> None:
        missing, keys = await self._fleet.settler.complete([run.lease for run, _ in batch])
        self._fleet.freed.offer(keys)
        if missing:
            leases = (run.lease for run, _ in batch)
            await self._sort_out(batch, {lease: JobStatus.SUCCEEDED for lease in leases if lease not in missing})
        else:
            self._leave(batch)
            asyncio.get_running_loop().call_soon(self._note_completed, batch)

    async def _sort_out(self, batch: list[Ending], written: Mapping[Lease, JobStatus]) -> None:
        """Part the runs whose end is written, by us or by somebody else, from those to be tried again."""
        fates, busy, gone = written, [], batch
        if len(written) < len(batch):
            fates = {**await self._fates(batch, written), **written}
            busy = [(run, outcome) for run, outcome in batch if fates.get(run.lease) is JobStatus.RUNNING]
            gone = [(run, outcome) for run, outcome in batch if fates.get(run.lease) is not JobStatus.RUNNING]
        self._locked += busy
        self._leave(gone)
        asyncio.get_running_loop().call_soon(self._note, gone, written, fates)

    def _leave(self, gone: list[Ending]) -> None:
        self._slots.active -= len(gone)
        for run, _ in gone:
            self._fleet.end(run)

    def _note_completed(self, gone: list[Ending]) -> None:
        now_s = time.monotonic()
        for run, outcome in gone:
            self._log.settled(run, outcome, JobStatus.SUCCEEDED, now_s)
        self._log.flush(self._slots.active)

    def _note(self, gone: list[Ending], written: Mapping[Lease, JobStatus], fates: Mapping[Lease, JobStatus]) -> None:
        """Count and log what became of runs; where we did not write their end, another status is another's doing."""
        now_s = time.monotonic()
        for run, outcome in gone:
            status = fates.get(run.lease)
            if status is not None and (run.lease in written or status in ENDS[type(outcome)]):
                self._log.settled(run, outcome, status, now_s)
            else:
                self._log.fenced(run, outcome, now_s)
        self._log.flush(self._slots.active)

    async def _fates(self, batch: list[Ending], known: Mapping[Lease, JobStatus]) -> dict[Lease, JobStatus]:
        missing = [run.lease for run, outcome in batch if run.lease not in known and ENDS[type(outcome)]]
        fates = await self._fleet.control.fates(missing) if missing else {}
        return {lease: JobStatus(status) for lease, status in fates.items()}


def is_plain(run: Run, outcome: Outcome) -> bool:
    """Return whether a run succeeded and left neither result nor progress."""
    return type(outcome) is Succeeded and outcome.result is None and run.progress() is None


def parted(batch: Sequence[Ending]) -> tuple[list[Settlement], list[Lease]]:
    """Return how runs ended, and apart from those the ones that succeeded and left neither result nor progress."""
    succeeded, settlements = [], []
    for run, outcome in batch:
        if is_plain(run, outcome):
            succeeded.append(run.lease)
        elif one := settlement(run.lease, outcome, run.progress()):
            settlements.append(one)
    return settlements, succeeded
