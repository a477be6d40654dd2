"""Runs pipelines on an event loop and thread of their own: what blocks it hurts neither API nor control."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from contextvars import Context, copy_context
from typing import Any

import asyncpg
import uvloop

from dataloader.connectors.files import open_files
from dataloader.connectors.http import HttpClient
from dataloader.context import AppContext
from dataloader.domain.outcomes import HandedOver, Outcome
from dataloader.exceptions import DataloaderError
from dataloader.storage.complaints import log_complaints
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.presence import PresenceRepository
from dataloader.storage.repositories.queue import QueueRepository
from dataloader.workers.chunks import Resources
from dataloader.workers.executors.children import Children
from dataloader.workers.runner import Runner
from dataloader.workers.runs import Run

CLOSE_TIMEOUT_S = 2.0
RUNS_PER_TURN = 64
TURN_S = 0.005
"""Runs that never wait follow each other so long before the loop gets its turn and what has ended is reported."""

_NO_OUTCOME = HandedOver("the run ended without an outcome")

Done = Callable[[Sequence[tuple[Run, Outcome]]], None]


class InlineExecutor:
    """A thread with an event loop, a pool and an HTTP session for async pipelines.

    Args:
        ctx: The process.
        done: Called on the executor's thread with outcomes; those of one turn of its loop come together.
    """

    def __init__(self, ctx: AppContext, *, done: Done) -> None:
        self._ctx = ctx
        self._done = done
        self._loop = uvloop.new_event_loop()
        self._pending: deque[Run] = deque()
        self._tasks: dict[Run, asyncio.Task[None] | None] = {}
        self._pumping = False
        self._pauses = 0
        self._outcomes: list[tuple[Run, Outcome]] = []
        self._started = threading.Event()
        self._closing: asyncio.Event = asyncio.Event()
        self._thread = threading.Thread(target=self._main, name="dataloader-pipelines", daemon=True)
        self._runner: Runner | None = None
        self._children: Children | None = None
        self._failure: BaseException | None = None
        self._answered = True
        self._asked_s = 0.0

    def open(self) -> None:
        """Start the thread; returns once it takes runs."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise DataloaderError("the pipelines' thread did not start") from self._failure

    def start(self, runs: Iterable[Run]) -> None:
        """Start runs; the outcome of each is reported exactly once."""
        self._loop.call_soon_threadsafe(self._begin, list(runs))

    def cancel(self, run: Run) -> None:
        """Cancel a run's task at the point where it waits."""
        self._loop.call_soon_threadsafe(self._cancel, run)

    def ping(self) -> float:
        """Ask the loop for a sign of life; return for how many seconds the last question has gone unanswered.

        Raises:
            DataloaderError: The thread has died.
        """
        if not self._thread.is_alive():
            raise DataloaderError("the pipelines' thread has died") from self._failure
        now_s = time.monotonic()
        if self._answered:
            self._answered, self._asked_s = False, now_s
            self._loop.call_soon_threadsafe(self._answer)
        return now_s - self._asked_s

    def _answer(self) -> None:
        self._answered = True

    def close(self) -> bool:
        """End the thread; return whether it ended, which a pipeline that blocks its loop prevents."""
        if not self._thread.is_alive():
            return True
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(CLOSE_TIMEOUT_S)
        return not self._thread.is_alive()

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits for the start
            self._failure = error
        finally:
            self._started.set()
            self._loop.close()

    async def _serve(self) -> None:
        log_complaints(self._loop, self._ctx.loggers.app)
        async with AsyncExitStack() as stack:
            pool = await self._open_pool()
            stack.callback(pool.terminate)
            http = await stack.enter_async_context(HttpClient())
            files = open_files(self._ctx.settings)
            stack.push_async_callback(files.close)
            schema, lease_s = self._ctx.settings.pg_schema, self._ctx.settings.dl_default_lease_ttl_sec
            queue = QueueRepository(schema, lease_s=lease_s)
            resources = Resources(
                self._ctx.settings, pool, http, files, queue, self._ctx.metrics, PresenceRepository(schema)
            )
            self._runner = Runner(resources, self._ctx.loggers)
            self._children = Children(self._ctx.settings, self._ctx.loggers, self._ctx.metrics, self._runner)
            # Every generator of a run is closed by the runner: the loop need not keep a list of them for its end.
            sys.set_asyncgen_hooks(firstiter=None)
            self._started.set()
            await self._closing.wait()
            await self._cancel_all()

    async def _open_pool(self) -> asyncpg.Pool[asyncpg.Record]:
        settings = self._ctx.settings

        async def opener(_dsn: object, **driver_options: Any) -> Connection:
            return await connect(settings, purpose="pipelines", command_timeout_s=None, **driver_options)

        pool: asyncpg.Pool[asyncpg.Record] = await asyncpg.create_pool(  # type: ignore[call-overload]
            connect=opener,
            min_size=0,
            max_size=settings.pg_pool_size,
            max_inactive_connection_lifetime=float(max(settings.pg_pool_recycle, 0)),
        )
        return pool

    def _begin(self, runs: list[Run]) -> None:
        self._tasks.update(dict.fromkeys(runs))
        self._pending.extend(runs)
        self._pump_on()

    def _pump_on(self) -> None:
        """See that what is pending is being started."""
        if self._pending and not self._pumping:
            self._pumping = True
            self._loop.create_task(self._pump(), context=Context())

    def _paused(self) -> None:
        """The task that started runs waits inside of one, or has ended: another one goes on with the rest."""
        self._pumping = False
        self._pauses += 1
        self._pump_on()

    async def _pump(self) -> None:
        """Run what is pending, one after the other; when one of them waits, another task goes on with the rest.

        A task begins without context variables. A run that waited, left a context variable set or the task cancelled
        is its last.
        """
        task = asyncio.current_task()
        self._loop.call_soon(self._paused)
        before, until_s = self._pauses, time.monotonic() + TURN_S
        for place in range(RUNS_PER_TURN):
            if not self._pending:
                return
            run = self._pending.popleft()
            run.alone = not place
            self._tasks[run] = task
            await self._execute(run)
            disturbed = self._pauses != before or (task and task.cancelling()) or len(copy_context())
            if disturbed or time.monotonic() > until_s:
                break
        self._loop.call_soon(self._pump_on)

    def _in_child(self, run: Run) -> bool:
        return run.spec.in_process or run.job.task in self._ctx.settings.dl_process_tasks

    async def _execute(self, run: Run) -> None:
        assert self._runner is not None and self._children is not None  # noqa: S101, PT018 - set before runs are taken
        outcome: Outcome = _NO_OUTCOME
        try:
            outcome = await (self._children if self._in_child(run) else self._runner).execute(run)
        finally:
            self._report(run, outcome)
            self._tasks.pop(run, None)

    def _report(self, run: Run, outcome: Outcome) -> None:
        if not self._outcomes:
            self._loop.call_soon(self._flush)
        self._outcomes.append((run, outcome))

    def _flush(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        self._done(outcomes)

    def _cancel(self, run: Run) -> None:
        if run not in self._tasks:
            return
        task = self._tasks[run]
        if task is None:
            self._loop.call_soon(self._cancel, run)
        else:
            task.cancel()

    async def _cancel_all(self) -> None:
        while self._pending:
            del self._tasks[self._pending.popleft()]
        tasks = {task for task in self._tasks.values() if task is not None}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT_S / 2)
        await asyncio.sleep(0)
