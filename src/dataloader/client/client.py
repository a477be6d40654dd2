"""The client: one method per operation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import Self, TypeVar, Unpack
from urllib.parse import quote
from uuid import UUID

import aiohttp
from pydantic import BaseModel

from dataloader.api.v1.fleet_schemas import QueueList, QueueView, TaskList, TaskView, WorkerList, WorkerView
from dataloader.api.v1.schemas import (
    BulkItem,
    BulkTriggered,
    JobChunks,
    JobChunkView,
    JobDetail,
    JobEvents,
    JobEventView,
    JobPage,
    JobStatusView,
    JobSummary,
    JobWhy,
    Triggered,
)
from dataloader.client.requests import JobFilter, TriggerOptions, job_body, query_of
from dataloader.client.transport import Call, Patience, Transport
from dataloader.client.watching import Watch
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import InvalidError, UnavailableError, UnknownTaskError

_CREATED = 201
_LONG_POLL_S = 30.0
_PAGE = 200

M = TypeVar("M", bound=BaseModel)


class DataloaderClient:
    """Talks to one service.

    Requests that may be repeated are, when the service or the way to it fails: all but a trigger without idempotency
    key, and a retry. Methods raise the `DataloaderError` the service answered with, and `UnavailableError` when there
    is no answer.

    Args:
        base_url: Where the service is.
        session: Used and left open; None opens one that `close` closes.
        timeout_s: For one try.
        patience: How failed tries are repeated.
        outage_s: How long `wait` and `watch` bear a service that is away.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8081",
        *,
        session: aiohttp.ClientSession | None = None,
        timeout_s: float = 15.0,
        patience: Patience | None = None,
        outage_s: float = 60.0,
    ) -> None:
        self._transport = Transport(base_url, session=session, timeout_s=timeout_s, patience=patience or Patience())
        self._outage_s = outage_s

    @property
    def base_url(self) -> str:
        """Where the service is."""
        return self._transport.base_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session, unless it was given to us."""
        await self._transport.close()

    async def trigger(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        queue: str | None = None,
        **options: Unpack[TriggerOptions],
    ) -> BulkItem:
        """Queue a job.

        Args:
            task: What to run.
            args: Its arguments.
            queue: Where; None asks the service for the task's own queue first.
            options: Keys, priority, due time, budgets and labels.

        Raises:
            InvalidError: The service refuses it, or the task has no queue of its own.
            IdempotencyConflictError: The key stands for a different request.
        """
        job = NewJob(queue=queue or await self.queue_of(task), task=task, args=args or {}, **options)
        call = Call("POST", "/jobs/trigger", body=job_body(job), repeatable=job.idempotency_key is not None)
        status, answer = await self._transport.fetch(call, Triggered)
        return BulkItem(job_id=answer.job_id, status=answer.status, created=status == _CREATED)

    async def trigger_many(self, jobs: Iterable[NewJob]) -> list[BulkItem]:
        """Queue jobs in one transaction; one answer per job, in order."""
        wanted = list(jobs)
        repeatable = all(job.idempotency_key is not None for job in wanted)
        body = {"jobs": [job_body(job) for job in wanted]}
        return (await self._ask(BulkTriggered, "POST", "/jobs/trigger/bulk", body=body, repeatable=repeatable)).jobs

    async def queue_of(self, task: str) -> str:
        """Return the queue that a task's jobs run on.

        Raises:
            UnknownTaskError: The service does not know the task.
            InvalidError: Its jobs may run on any queue, so one must be named.
        """
        tasks = {view.task: view for view in await self.tasks()}
        if task not in tasks:
            raise UnknownTaskError(f"Unknown task {task!r}", known=sorted(tasks))
        queue = tasks[task].queue
        if queue is None:
            raise InvalidError(f"Task {task!r} runs on any queue; name one")
        return queue

    async def status(self, job_id: UUID | str, *, wait: float = 0) -> JobStatusView:
        """Return where a job stands; the service waits up to `wait` seconds for its end."""
        params = [("wait", f"{wait:g}")] if wait else []
        return await self._ask(JobStatusView, "GET", f"/jobs/{_part(job_id)}/status", params=params, wait_s=wait)

    async def watch(
        self,
        job_id: UUID | str,
        *,
        period_s: float = 1.0,
        on_outage: Callable[[UnavailableError], None] | None = None,
    ) -> AsyncIterator[JobStatusView]:
        """Yield a job's state now, then at least every `period_s` seconds, last the one it ended with."""
        watch = Watch(
            lambda hold_s: self.status(job_id, wait=hold_s),
            period_s=period_s,
            outage_s=self._outage_s,
            on_outage=on_outage,
        )
        async for state in watch.states():
            yield state

    async def wait(self, job_id: UUID | str, *, timeout_s: float | None = None) -> JobStatusView:
        """Return the state a job ends with.

        Raises:
            TimeoutError: It has not ended in time.
        """
        async with asyncio.timeout(timeout_s):
            states = [state async for state in self.watch(job_id, period_s=_LONG_POLL_S) if state.status.is_finished]
        return states[-1]

    async def cancel(self, job_id: UUID | str) -> JobStatusView:
        """Cancel a queued job, ask a running one to stop.

        Raises:
            JobStateError: It has ended otherwise.
        """
        return await self._ask(JobStatusView, "POST", f"/jobs/{_part(job_id)}/cancel")

    async def retry(self, job_id: UUID | str, *, from_start: bool = False) -> JobStatusView:
        """Queue a failed, canceled or lost job again; `from_start` drops its checkpoint.

        Raises:
            JobStateError: It is queued, runs, or has succeeded.
        """
        body = {"from_start": from_start}
        return await self._ask(JobStatusView, "POST", f"/jobs/{_part(job_id)}/retry", body=body, repeatable=False)

    async def jobs(self, *, limit: int | None = None, **filters: Unpack[JobFilter]) -> AsyncIterator[JobSummary]:
        """Yield jobs, newest first, page by page; at most `limit` of them."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            params = [*query_of(filters), ("limit", str(size)), *([("cursor", cursor)] if cursor else [])]
            page = await self._ask(JobPage, "GET", "/jobs", params=params)
            for job in page.jobs:
                yield job
            left = None if left is None else left - len(page.jobs)
            cursor = page.next_cursor
            if cursor is None:
                return

    async def job(self, job_id: UUID | str) -> JobDetail:
        """Return all that is known of a job."""
        return await self._ask(JobDetail, "GET", f"/jobs/{_part(job_id)}")

    async def events(self, job_id: UUID | str) -> AsyncIterator[JobEventView]:
        """Yield the job's audit log, oldest first."""
        after: int | None = None
        while True:
            params = [] if after is None else [("after", str(after))]
            part = await self._ask(JobEvents, "GET", f"/jobs/{_part(job_id)}/events", params=params)
            for event in part.events:
                yield event
            after = part.next_after
            if after is None:
                return

    async def chunks(self, job_id: UUID | str) -> AsyncIterator[JobChunkView]:
        """Yield the job's committed chunks, oldest first."""
        after: int | None = None
        while True:
            params = [] if after is None else [("after", str(after))]
            part = await self._ask(JobChunks, "GET", f"/jobs/{_part(job_id)}/chunks", params=params)
            for chunk in part.chunks:
                yield chunk
            after = part.next_after
            if after is None:
                return

    async def why(self, job_id: UUID | str) -> JobWhy:
        """Return what a queued job waits for."""
        return await self._ask(JobWhy, "GET", f"/jobs/{_part(job_id)}/why")

    async def tasks(self) -> list[TaskView]:
        """Return every task that may be triggered."""
        return (await self._ask(TaskList, "GET", "/tasks")).tasks

    async def queues(self) -> list[QueueView]:
        """Return every queue, with what it holds and who serves it."""
        return (await self._ask(QueueList, "GET", "/queues")).queues

    async def pause(self, queue: str) -> QueueView:
        """Let no more jobs of a queue start."""
        return await self._ask(QueueView, "POST", f"/queues/{_part(queue)}/pause")

    async def resume(self, queue: str) -> QueueView:
        """Let jobs of a queue start again."""
        return await self._ask(QueueView, "POST", f"/queues/{_part(queue)}/resume")

    async def workers(self) -> list[WorkerView]:
        """Return the processes that run jobs, live ones first."""
        return (await self._ask(WorkerList, "GET", "/workers")).workers

    async def _ask(
        self,
        kind: type[M],
        method: str,
        path: str,
        *,
        params: list[tuple[str, str]] | None = None,
        body: object = None,
        repeatable: bool = True,
        wait_s: float = 0,
    ) -> M:
        call = Call(method, path, params=params or [], body=body, repeatable=repeatable, wait_s=wait_s)
        return (await self._transport.fetch(call, kind))[1]


def _part(value: UUID | str) -> str:
    """Return a value as one part of a path, whatever is in it."""
    return quote(str(value), safe="")
