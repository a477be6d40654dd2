"""Triggers that arrive together are written together: one statement and one commit for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg

from dataloader.api.database import BUDGET_S, Database
from dataloader.context import AppContext
from dataloader.domain.jobs import Enqueued, JobStatus, NewJob, new_job_id
from dataloader.exceptions import DataloaderError
from dataloader.storage.db import PinnedConnection

PRIMARY_KEY = "dl_jobs_pk"
BATCH_LIMIT = 100
STALL_S = 0.5
"""Longest wait of a joined statement for a key of one of its jobs that somebody's open transaction holds."""

SUSPECT_S = 5.0
"""How long the keys of a joined statement that stalled go alone."""

WAIT_S = 2.5
SUSPECTS_LIMIT = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    """A trigger that waits to be written; `answer` None says that it must go alone."""

    job: NewJob
    actor: str
    answer: asyncio.Future[Enqueued | None]

    def tell(self, answer: Enqueued | None) -> None:
        if not self.answer.done():
            self.answer.set_result(answer)


class TriggerDesk:
    """Takes triggers; while it does not run, each is written alone.

    A batch that fails is tried again, one by one: a bad value, or a key that another transaction holds, is the trouble
    of one job and not of all. Each job has its id from here, so that one whose commit was not confirmed is not written
    twice.

    Args:
        ctx: The process.
        database: For jobs that go alone.
    """

    name = "trigger desk"

    def __init__(self, ctx: AppContext, database: Database) -> None:
        self._ctx = ctx
        self._database = database
        self._pending: list[_Request] = []
        self._suspects: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._running = False

    async def enqueue(self, job: NewJob, *, actor: str) -> Enqueued:
        """Write a job; when this returns it is committed.

        Raises:
            InvalidError: The database refused a value.
            UnavailableError: Another transaction holds a key of this job for too long.
            DatabaseAwayError: The database did not answer in time; whether the job was written is not known.
        """
        began_s, job_id = time.monotonic(), new_job_id()
        job = replace(job, job_id=job_id)
        answer = await self._join(job, actor) if self._running and not self._is_suspect(job) else None
        if answer is not None:
            return answer
        try:
            return await self._write_alone(job, actor, budget_s=BUDGET_S - (time.monotonic() - began_s))
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name != PRIMARY_KEY:
                raise
            # An earlier try has written it, and its answer did not arrive.
            return Enqueued(job_id, JobStatus.QUEUED, created=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Write what comes until told to stop, then what is left."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._serve())
                await stop.wait()
                self._running = False
                self._wake.set()
        finally:
            self._running = False
            self._send_alone(self._pending)

    async def _write_alone(self, job: NewJob, actor: str, *, budget_s: float) -> Enqueued:
        async with self._database.driver(budget_s) as connection:
            [answer] = await self._ctx.intake.enqueue(connection, [job], actor=actor)
        return answer

    async def _join(self, job: NewJob, actor: str) -> Enqueued | None:
        request = _Request(job, actor, asyncio.get_running_loop().create_future())
        self._pending.append(request)
        self._wake.set()
        with self._database.watched():
            async with asyncio.timeout(WAIT_S):
                return await request.answer

    async def _serve(self) -> None:
        pinned = PinnedConnection(self._ctx.settings, purpose="triggers")
        try:
            while self._running or self._pending:
                if batch := self._next_batch():
                    await self._write(pinned, batch)
                elif self._running:
                    self._wake.clear()
                    await self._wake.wait()
        finally:
            await pinned.close()

    def _next_batch(self) -> list[_Request]:
        """Take what waits, of one actor, but for those whose client has gone."""
        waiting = [request for request in self._pending if not request.answer.done()]
        batch = [request for request in waiting if request.actor == waiting[0].actor][:BATCH_LIMIT]
        taken = set(batch)
        self._pending = [request for request in waiting if request not in taken]
        return batch

    async def _write(self, pinned: PinnedConnection, batch: Sequence[_Request]) -> None:
        jobs = [request.job for request in batch]
        alone = len(batch) == 1 and not self._pending and not jobs[0].lock_key and not jobs[0].partition_key
        try:
            async with pinned.use() as connection, asyncio.timeout(WAIT_S):
                self._ctx.listener.ignore(self.name, connection.get_server_pid())
                answers = await self._ctx.intake.enqueue(
                    connection, jobs, actor=batch[0].actor, notify=alone, lock_timeout_s=STALL_S
                )
        except (DataloaderError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self._suspect(batch)
            self._send_alone(batch)
            return
        if alone and answers[0].created and jobs[0].available_at is None:
            # A worker of this process goes first: it has its claim on the way before the answer is put together.
            self._ctx.notifier.announce([f"queue:{jobs[0].queue}"], here_only=True)
        for request, answer in zip(batch, answers, strict=True):
            request.tell(replace(answer, announced=alone))

    def _send_alone(self, batch: Sequence[_Request]) -> None:
        for request in batch:
            request.tell(None)

    def _suspect(self, batch: Sequence[_Request]) -> None:
        now_s = time.monotonic()
        if len(self._suspects) > SUSPECTS_LIMIT:
            self._suspects = {key: until_s for key, until_s in self._suspects.items() if until_s > now_s}
        for request in batch:
            for key in (request.job.idempotency_key, request.job.partition_key):
                if key is not None:
                    self._suspects[key] = now_s + SUSPECT_S

    def _is_suspect(self, job: NewJob) -> bool:
        if not self._suspects:
            return False
        now_s = time.monotonic()
        return any(self._suspects.get(key, 0.0) > now_s for key in (job.idempotency_key, job.partition_key) if key)
