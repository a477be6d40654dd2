"""All heartbeats of the process, on a thread and connection of their own: a busy loop costs no lease."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from dataloader.base import wait_for
from dataloader.context import AppContext
from dataloader.exceptions import DatabaseAwayError
from dataloader.storage.db import PinnedConnection, is_passing
from dataloader.storage.repositories.presence import Presence, PresenceRepository
from dataloader.storage.repositories.queue import QueueRepository
from dataloader.storage.repositories.rows import Beat, Verdict
from dataloader.workers.periodic import Patience
from dataloader.workers.runs import FINAL_STAGE, Run, RunTable, StopReason

PROGRESS_PERIOD_S = 1.0
PRESENCE_BEATS = 3.0
CLOSE_TIMEOUT_S = 3.0


class LeaseKeeper:
    """Renews every lease of the process in one statement, and learns which runs are to end.

    Args:
        ctx: The process.
        runs: The runs whose leases are kept.
        presence: What this process says of itself with every heartbeat.
    """

    def __init__(self, ctx: AppContext, runs: RunTable, presence: Presence) -> None:
        settings = ctx.settings
        self._ctx = ctx
        self._runs = runs
        self._presence = presence
        self._lease_s = settings.dl_default_lease_ttl_sec
        self._heartbeat_s = settings.dl_heartbeat_sec
        self._tick_s = min(PROGRESS_PERIOD_S, settings.dl_heartbeat_sec / 2)
        self._logger = ctx.loggers.app.bind(part="leases")
        self._queue = QueueRepository(settings.pg_schema, lease_s=self._lease_s)
        self._presences = PresenceRepository(settings.pg_schema)
        self._thread = threading.Thread(target=self._main, name="dataloader-leases", daemon=True)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._asked: set[Run] = set()
        self._beat_at_s = 0.0
        self._failure: BaseException | None = None
        self.stopping = False

    def open(self) -> None:
        """Start the thread."""
        self._thread.start()

    def beat_soon(self) -> None:
        """Send the next heartbeat at the next tick, to learn of cancel requests that no notification told."""
        self._beat_at_s = 0.0

    def ask(self, run: Run) -> None:
        """Ask the database at once whether a run is to end; a notification may speak of an earlier run of its job."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._ask, run)

    def _ask(self, run: Run) -> None:
        self._asked.add(run)
        self._wake.set()

    def check(self) -> None:
        """Raise what ended the thread, if anything did.

        Raises:
            BaseException: The thread has died; without it every lease will expire.
        """
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Take this process off the list and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
            self._thread.join(CLOSE_TIMEOUT_S)

    def _end(self) -> None:
        self._stop.set()
        self._wake.set()

    def _main(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that watches this one
            self._failure = error
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        pinned = PinnedConnection(self._ctx.settings, purpose="leases")
        patience = Patience(self._logger)
        try:
            while not self._stop.is_set():
                pause_s = self._tick_s
                try:
                    await self._tick(pinned)
                    patience.ok()
                except Exception as error:  # noqa: BLE001 - a retry boundary: what does not pass is raised again
                    pause_s = min(patience.failed(error), self._tick_s)
                self._stop_cut_off()
                if await wait_for(self._wake, pause_s):
                    self._wake.clear()
            await self._leave(pinned)
        finally:
            await pinned.close()

    async def _tick(self, pinned: PinnedConnection) -> None:
        now_s = time.monotonic()
        asked = self._asked.copy()
        if now_s < self._beat_at_s:
            await self._renew(pinned, [run for run in self._kept() if run.progress_dirty or run in asked])
            self._asked -= asked
            return
        await self._renew(pinned, list(self._kept()))
        self._asked -= asked
        async with asyncio.timeout(self._bound_s()), pinned.use() as connection:
            await self._presences.beat(
                connection, self._presence, stopping=self.stopping, ttl_s=PRESENCE_BEATS * self._heartbeat_s
            )
        self._beat_at_s = now_s + self._heartbeat_s

    def _kept(self) -> Iterable[Run]:
        return (run for run in self._runs if run.pushed < FINAL_STAGE and run.stop is not StopReason.LEASE_LOST)

    def _bound_s(self) -> float:
        """Return how long one heartbeat may take: a dead socket must be noticed well before the lease ends."""
        return max(self._lease_s / 4, 1.0)

    async def _renew(self, pinned: PinnedConnection, runs: list[Run]) -> None:
        if not runs:
            return
        progress = {run.lease: run.progress() if run.progress_dirty else None for run in runs}
        for run in runs:
            run.progress_dirty = False
        sent_s = time.monotonic()
        try:
            async with asyncio.timeout(self._bound_s()), pinned.use() as connection:
                beats = await self._queue.heartbeat(connection, progress)
        except BaseException:
            for run in runs:
                run.progress_dirty = run.progress_dirty or progress[run.lease] is not None
            raise
        by_lease = {run.lease: run for run in runs}
        for beat in beats:
            self._apply(by_lease[beat.lease], beat, sent_s)

    def _apply(self, run: Run, beat: Beat, sent_s: float) -> None:
        """Act on an answer; a run that has ended meanwhile may have been settled since the question was sent."""
        if run.ended:
            return
        if beat.verdict is Verdict.LOST:
            self._logger.warning("lease lost, stopping the run", job_id=str(run.lease.job_id), epoch=run.lease.epoch)
            run.request_stop(StopReason.LEASE_LOST)
            return
        if beat.verdict is Verdict.OK:
            run.renewed_s = max(run.renewed_s, sent_s)
        if beat.cancel_requested:
            run.request_stop(StopReason.CANCEL)

    def _stop_cut_off(self) -> None:
        """Stop runs whose lease may have expired although nobody could say so."""
        now_s = time.monotonic()
        for run in self._runs:
            if run.ended or run.stop in {StopReason.CUT_OFF, StopReason.LEASE_LOST}:
                continue
            if now_s - run.renewed_s > self._lease_s:
                self._logger.warning(
                    "no contact with the database for a whole lease, stopping the run", job_id=str(run.lease.job_id)
                )
                run.request_stop(StopReason.CUT_OFF)

    async def _leave(self, pinned: PinnedConnection) -> None:
        try:
            async with asyncio.timeout(1.0), pinned.use() as connection:
                await self._presences.leave(connection, self._presence.worker_id)
        except (DatabaseAwayError, TimeoutError) as error:
            self._logger.debug("could not sign off", reason=str(error))
        except Exception as error:  # noqa: BLE001 - signing off must not keep a process from ending in order
            if not is_passing(error):
                self._logger.warning("could not sign off", reason=str(error))
