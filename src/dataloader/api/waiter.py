"""Long-polls: all requests that wait for the end of jobs share one query."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from dataloader.api.database import Database
from dataloader.base import first_of, wait_for
from dataloader.exceptions import DataloaderError
from dataloader.storage.notify_listener import NotifyListener
from dataloader.storage.repositories.jobs import JobsRepository

POLL_S = 1.0
MIN_GAP_S = 0.02
"""Shortest time between two looks, so that a thousand jobs that end together cost a few."""

End = asyncio.Future[None]


class JobWaiter:
    """Tells requests when the jobs they wait for have ended.

    Args:
        database: Where to look.
        jobs: How to look.
        listener: Says when to look; without it there is a look every second.
    """

    name = "job waiter"

    def __init__(self, database: Database, jobs: JobsRepository, listener: NotifyListener) -> None:
        self._database = database
        self._jobs = jobs
        self._ends: defaultdict[UUID, set[End]] = defaultdict(set)
        self._wake = asyncio.Event()
        self._stopping = False
        listener.subscribe("done", lambda _: self._wake.set())

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return sum(map(len, self._ends.values()))

    @contextmanager
    def awaiting(self, job_id: UUID) -> Iterator[End]:
        """Return a future that is done when the job has ended or the service stops.

        Enter it before reading the status, so that no end is missed in between. It raises what went wrong when the
        database is away.
        """
        end: End = asyncio.get_running_loop().create_future()
        self._ends[job_id].add(end)
        if self._stopping:
            _finish(end, None)
        try:
            yield end
        finally:
            if not end.cancel() and not end.cancelled():
                end.exception()
            self._ends[job_id].discard(end)
            if not self._ends[job_id]:
                del self._ends[job_id]

    async def run(self, stop: asyncio.Event) -> None:
        """Look at the awaited jobs after every notification and once a second; on stop let everyone go."""
        try:
            while not await wait_for(stop, MIN_GAP_S):
                await self._pause(stop)
                await self._look()
        finally:
            self.release()

    def release(self) -> None:
        """Let every request go now and later; each answers with the status the job has then."""
        self._stopping = True
        self._finish_all(None)

    async def _pause(self, stop: asyncio.Event) -> None:
        await first_of(stop, self._wake, timeout_s=POLL_S)
        self._wake.clear()

    async def _look(self) -> None:
        wanted = list(self._ends)
        if not wanted:
            return
        try:
            async with self._database.reading() as connection:
                statuses = await self._jobs.statuses(connection, wanted)
        except DataloaderError as error:
            self._finish_all(error)
            return
        for job_id in wanted:
            status = statuses.get(job_id)
            if status is None or status.is_finished:
                self._finish(job_id, None)

    def _finish_all(self, error: DataloaderError | None) -> None:
        for job_id in list(self._ends):
            self._finish(job_id, error)

    def _finish(self, job_id: UUID, error: DataloaderError | None) -> None:
        for end in self._ends.get(job_id, ()):
            _finish(end, error)


def _finish(end: End, error: DataloaderError | None) -> None:
    if end.done():
        return
    if error is None:
        end.set_result(None)
    else:
        end.set_exception(type(error)(error.message))
