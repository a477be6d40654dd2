"""What can be done with jobs; knows no web framework."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from dataloader.api.database import Database
from dataloader.api.v1.desk import TriggerDesk
from dataloader.api.v1.known_tasks import KnownTasks
from dataloader.api.v1.paging import cursor_of, read_cursor, read_labels
from dataloader.api.v1.schemas import (
    BulkItem,
    BulkTriggered,
    JobChunks,
    JobChunkView,
    JobDetail,
    JobEvents,
    JobEventView,
    JobPage,
    JobQuery,
    JobStatusView,
    JobSummary,
    JobWhy,
    TriggerRequest,
)
from dataloader.api.v1.waits import reasons
from dataloader.api.v1.wakeups import WakeUps
from dataloader.api.waiter import JobWaiter
from dataloader.context import AppContext
from dataloader.domain.jobs import RETRYABLE, Enqueued, JobStatus, Keys, NewJob
from dataloader.exceptions import (
    DataloaderError,
    IdempotencyConflictError,
    InvalidArgsError,
    InvalidError,
    JobNotFoundError,
    JobStateError,
)
from dataloader.storage.repositories.jobs import JobFilter, JobsRepository, Row
from dataloader.storage.repositories.rows import Operated

ERRORS_LIMIT = 50
CHECKS_IN_A_ROW = 200
"""So many jobs of a bulk are checked before other requests get a turn."""

_CANCELABLE = {JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.CANCELED, "partition_released"}


class JobService:
    """The use cases around jobs; each is at most a transaction and what follows its commit.

    Args:
        ctx: The process.
        database: Bounded use of the database.
        desk: Writes triggers.
        tasks: What may be triggered.
        waiter: Long-polls.
        wakeups: What follows a commit.
    """

    def __init__(
        self,
        ctx: AppContext,
        *,
        database: Database,
        desk: TriggerDesk,
        tasks: KnownTasks,
        waiter: JobWaiter,
        wakeups: WakeUps,
    ) -> None:
        self._audit = ctx.loggers.audit
        self._lease_s = ctx.settings.dl_default_lease_ttl_sec
        self._intake = ctx.intake
        self._jobs = JobsRepository(ctx.settings.pg_schema)
        self._database = database
        self._desk = desk
        self._tasks = tasks
        self._waiter = waiter
        self._wakeups = wakeups

    async def trigger(self, request: TriggerRequest, *, actor: str) -> Enqueued:
        """Queue a job, or return the one that its idempotency key stands for.

        Raises:
            InvalidError: Nobody knows the task, it runs elsewhere, or a value does not fit.
            IdempotencyConflictError: The key stands for a different request.
        """
        job = request.as_job()
        await self._tasks.check(job)
        answer = await self._desk.enqueue(job, actor=actor)
        _refuse_conflicts([answer])
        await self._announce([job], [answer])
        # The line is put together when the answer is on its way.
        asyncio.get_running_loop().call_soon(self._note_trigger, job, answer, actor)
        return answer

    async def trigger_bulk(self, requests: Sequence[TriggerRequest], *, actor: str) -> BulkTriggered:
        """Queue many jobs in one transaction, all or none.

        Raises:
            InvalidError: As for one job; `details["errors"]` names index, field and reason of each bad item.
            IdempotencyConflictError: A key stands for a different request; `details["index"]` names the item.
        """
        jobs = [request.as_job() for request in requests]
        await self._check_all(jobs)
        async with self._database.transaction() as connection:
            answers = await self._intake.enqueue(connection, jobs, actor=actor)
            _refuse_conflicts(answers, bulk=True)
        await self._announce(jobs, answers)
        self._audit.info("jobs triggered", count=len(jobs), created=sum(one.created for one in answers), actor=actor)
        return BulkTriggered(
            jobs=[BulkItem(job_id=one.job_id, status=one.status, created=one.created) for one in answers]
        )

    async def status(
        self, job_id: UUID, *, wait_s: float = 0.0, gone: asyncio.Future[None] | None = None
    ) -> JobStatusView:
        """Return where a job stands, at once or when it has ended.

        Args:
            job_id: The job.
            wait_s: Longest wait for its end.
            gone: Done when nobody waits for the answer any more.

        Raises:
            JobNotFoundError: There is no such job.
        """
        if wait_s <= 0:
            return await self._status(job_id)
        with self._waiter.awaiting(job_id) as end:
            state = await self._status(job_id)
            if state.status.is_finished:
                return state
            await asyncio.wait({end} | ({gone} if gone else set()), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
            if end.done():
                end.result()
        return await self._status(job_id)

    async def cancel(self, job_id: UUID, *, actor: str) -> JobStatusView:
        """Cancel a queued job, ask a running one to stop; a canceled one stays as it is.

        Raises:
            JobNotFoundError: There is no such job.
            JobStateError: It has ended otherwise.
        """
        async with self._database.transaction() as connection:
            done = _found(job_id, await self._intake.cancel(connection, job_id, actor=actor))
            if done.before not in _CANCELABLE:
                raise _state_conflict(done, f"It is {done.before} and cannot be canceled any more")
            state = await self._state(connection, job_id)
        self._audit.info("job cancel asked", job_id=str(job_id), before=done.before, actor=actor)
        if done.before == JobStatus.RUNNING:
            await self._wakeups.send(also=[f"cancel:{job_id}"])
        elif done.before != JobStatus.CANCELED:
            await self._wakeups.send(keys=done.keys, also=["done"])
        return state

    async def retry(self, job_id: UUID, *, from_start: bool, actor: str) -> JobStatusView:
        """Queue a failed, canceled or lost job again.

        Raises:
            JobNotFoundError: There is no such job.
            JobStateError: It waits, runs or has succeeded.
        """
        async with self._database.transaction() as connection:
            done = _found(job_id, await self._intake.retry(connection, job_id, from_start=from_start, actor=actor))
            if done.before not in RETRYABLE:
                raise _state_conflict(done, f"It is {done.before}; only failed, canceled and lost jobs can be retried")
            state = await self._state(connection, job_id)
        self._audit.info("job retried", job_id=str(job_id), before=done.before, from_start=from_start, actor=actor)
        await self._wakeups.send(queues=() if done.keys else [done.queue], keys=done.keys)
        return state

    async def page(self, query: JobQuery) -> JobPage:
        """Return jobs that match, newest first."""
        wanted = JobFilter(
            queue=query.queue,
            task=query.task,
            statuses=frozenset(query.status),
            labels=read_labels(query.label),
            lock_key=query.lock_key,
            partition_key=query.partition_key,
            created_after=query.created_after,
            created_before=query.created_before,
        )
        before = None if query.cursor is None else read_cursor(query.cursor)
        async with self._database.reading() as connection:
            rows = await self._jobs.page(connection, wanted, limit=query.limit + 1, before=before)
        jobs = [JobSummary.model_validate(row) for row in rows[: query.limit]]
        return JobPage(jobs=jobs, next_cursor=cursor_of(jobs[-1].job_id) if len(rows) > query.limit else None)

    async def detail(self, job_id: UUID) -> JobDetail:
        """Return all of a job.

        Raises:
            JobNotFoundError: There is no such job.
        """
        async with self._database.reading() as connection:
            return JobDetail.model_validate(_existing(job_id, await self._jobs.get(connection, job_id)))

    async def events(self, job_id: UUID, *, after: int, limit: int) -> JobEvents:
        """Return the audit log of a job after an event.

        Raises:
            JobNotFoundError: There is no such job.
        """
        async with self._database.reading() as connection:
            rows = await self._jobs.events(connection, job_id, after=after, limit=limit + 1)
            if not rows:
                _existing(job_id, await self._jobs.status(connection, job_id))
        events = [JobEventView.model_validate(row) for row in rows[:limit]]
        return JobEvents(events=events, next_after=events[-1].event_id if len(rows) > limit else None)

    async def chunks(self, job_id: UUID, *, after: int, limit: int) -> JobChunks:
        """Return the committed chunks of a job after one of them.

        Raises:
            JobNotFoundError: There is no such job.
        """
        async with self._database.reading() as connection:
            rows = await self._jobs.chunks(connection, job_id, after=after, limit=limit + 1)
            if not rows:
                _existing(job_id, await self._jobs.status(connection, job_id))
        chunks = [JobChunkView.model_validate(row) for row in rows[:limit]]
        return JobChunks(chunks=chunks, next_after=chunks[-1].chunk_id if len(rows) > limit else None)

    async def why(self, job_id: UUID) -> JobWhy:
        """Return what a job waits for.

        Raises:
            JobNotFoundError: There is no such job.
        """
        async with self._database.reading() as connection:
            facts = await self._jobs.why(connection, job_id)
        if facts is None:
            raise _not_found(job_id)
        return JobWhy(job_id=job_id, status=facts.status, waits_for=reasons(facts, lease_s=self._lease_s))

    async def _status(self, job_id: UUID) -> JobStatusView:
        async with self._database.reading() as connection:
            return await self._state(connection, job_id)

    async def _state(self, connection: AsyncConnection, job_id: UUID) -> JobStatusView:
        return JobStatusView.model_validate(_existing(job_id, await self._jobs.status(connection, job_id)))

    async def _check_all(self, jobs: Sequence[NewJob]) -> None:
        problems: list[dict[str, object]] = []
        first: InvalidError | None = None
        for index, job in enumerate(jobs):
            if index % CHECKS_IN_A_ROW == 0:
                await asyncio.sleep(0)
            try:
                await self._tasks.check(job)
            except InvalidError as error:
                first = first or error
                problems += _indexed(index, error)
            if len(problems) >= ERRORS_LIMIT:
                break
        if first is not None:
            kind = type(first) if len(problems) == 1 else InvalidArgsError
            raise kind(f"Nothing was queued: {problems[0]['reason']}", **first.details | {"errors": problems})

    def _note_trigger(self, job: NewJob, answer: Enqueued, actor: str) -> None:
        self._audit.info(
            "job triggered",
            job_id=str(answer.job_id),
            task=job.task,
            queue=job.queue,
            created=answer.created,
            actor=actor,
        )

    async def _announce(self, jobs: Sequence[NewJob], answers: Sequence[Enqueued]) -> None:
        if all(answer.announced for answer in answers):
            await self._wakeups.give_way()
            return
        created = [job for job, answer in zip(jobs, answers, strict=True) if answer.created]
        keys = Keys(
            frozenset(job.lock_key for job in created if job.lock_key is not None),
            frozenset(job.partition_key for job in created if job.partition_key is not None),
        )
        unkeyed = [job for job in created if job.lock_key is None and job.partition_key is None]
        queues = {job.queue for job in unkeyed if job.available_at is None}
        if created:
            await self._wakeups.send(queues=queues, keys=keys)


def _indexed(index: int, error: InvalidError) -> list[dict[str, object]]:
    errors = error.details.get("errors")
    items = errors if isinstance(errors, list) else [{"field": "", "reason": error.message}]
    return [{"index": index, "field": f"jobs.{index}.{item['field']}", "reason": item["reason"]} for item in items]


def _refuse_conflicts(answers: Sequence[Enqueued], *, bulk: bool = False) -> None:
    for index, answer in enumerate(answers):
        if answer.conflict:
            raise IdempotencyConflictError(
                "The idempotency key belongs to a different request" + (f" (job {index} of the bulk)" if bulk else ""),
                job_id=answer.job_id,
                job_status=answer.status,
                **{"index": index} if bulk else {},
            )


def _found(job_id: UUID, operated: Operated | None) -> Operated:
    if operated is None:
        raise _not_found(job_id)
    return operated


def _existing(job_id: UUID, row: Row | None) -> Row:
    if row is None:
        raise _not_found(job_id)
    return row


def _not_found(job_id: UUID) -> DataloaderError:
    return JobNotFoundError(f"There is no job {job_id}", job_id=job_id)


def _state_conflict(done: Operated, message: str) -> JobStateError:
    return JobStateError(message, job_id=done.job_id, job_status=done.before)
