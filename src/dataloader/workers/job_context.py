"""What a pipeline is given: JobContext, and the checkpoint it may yield."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from dataloader.config import Settings
from dataloader.connectors.files import FileAccess
from dataloader.connectors.http import HttpClient
from dataloader.logger import Logger
from dataloader.storage.db import translated
from dataloader.workers.chunks import ChunkTransaction, Resources, open_chunk
from dataloader.workers.runs import Run


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Yield it to save a checkpoint by a fenced write of its own: at least once for what came before it.

    Args:
        state: A JSON object that the next attempt finds in `ctx.checkpoint`.
        done: Units done so far.
        total: Units there are.
    """

    state: Mapping[str, object]
    done: float | None = None
    total: float | None = None


class TaskStateReader:
    """A task's small store, shared by all its jobs; it is written through `tx.set_state`.

    Args:
        resources: Where to read while no chunk is open.
        task: The task.
        chunk: Returns the open chunk; it is read there, since a second connection might never come free.
    """

    def __init__(self, resources: Resources, task: str, chunk: Callable[[], ChunkTransaction | None]) -> None:
        self._resources = resources
        self._task = task
        self._chunk = chunk

    async def get(self, key: str) -> object | None:
        """Return a value, None when it was never set."""
        chunk = self._chunk()
        if chunk is not None:
            return await chunk.get_state(key)
        async with self._resources.connection() as connection:
            with translated():
                return await self._resources.presence.load_state(connection, self._task, key)


class JobContext:
    """The running job as its pipeline sees it.

    Attributes:
        checkpoint: What the last committed checkpoint said, of this attempt or an earlier one; None before the first.
        logger: Bound to the job.
        result: Set it to a JSON value to keep it with the job when it succeeds.
    """

    def __init__(self, run: Run, resources: Resources, logger: Logger) -> None:
        self._run = run
        self._resources = resources
        self._in_transaction = False
        self._chunk: ChunkTransaction | None = None
        self.result: object | None = None
        self.checkpoint: Mapping[str, object] | None = run.job.checkpoint
        self.logger = logger

    @property
    def state(self) -> TaskStateReader:
        """The task's small store."""
        return TaskStateReader(self._resources, self._run.job.task, lambda: self._chunk)

    @property
    def job_id(self) -> UUID:
        """The job's id."""
        return self._run.lease.job_id

    @property
    def task(self) -> str:
        """The task's name."""
        return self._run.job.task

    @property
    def queue(self) -> str:
        """The queue the job came from."""
        return self._run.job.queue

    @property
    def attempt(self) -> int:
        """Number of this attempt, from 1."""
        return self._run.job.attempt

    @property
    def settings(self) -> Settings:
        """The process's settings."""
        return self._resources.settings

    @property
    def http(self) -> HttpClient:
        """The process's HTTP session, with retries, limits per host and time limits."""
        return self._resources.http

    @property
    def files(self) -> FileAccess:
        """The process's access to files, local ones and those behind http, as far as its settings allow."""
        return self._resources.files

    @property
    def cancel_requested(self) -> bool:
        """Whether the run is to end at its next safe point."""
        return self._run.stop is not None

    @property
    def in_transaction(self) -> bool:
        """Whether a chunk's transaction is open."""
        return self._in_transaction

    def progress(self, **update: object) -> None:
        """Report progress between safe points: `done`, `total`, `unit`, `message`."""
        self._run.report(update)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[ChunkTransaction]:
        """Open a chunk: its rows and its checkpoint are committed together at the end of the block, fenced.

        Raises:
            LeaseLostError: This run's lease is gone; the chunk has been rolled back.
            DatabaseAwayError: The service's database went away; the chunk was not committed, or its commit is unclear
                and the next attempt finds out from the checkpoint.
            RuntimeError: A chunk of this job is open already.
        """
        if self._in_transaction:
            raise RuntimeError("ctx.transaction() is open already; one chunk at a time")
        self._in_transaction = True
        try:
            async with open_chunk(self._run, self._resources) as chunk:
                self._chunk = chunk
                yield chunk
            if chunk.saved_state is not None:
                self.checkpoint = chunk.saved_state
        finally:
            self._in_transaction, self._chunk = False, None

    @asynccontextmanager
    async def transaction_beside(self, turn: asyncio.Lock) -> AsyncIterator[ChunkTransaction]:
        """Open one of several chunks that are filled at the same time, each fenced like that of `transaction`.

        Set `tx.in_turn`: what a chunk commits as its checkpoint must tell of all chunks committed before it.

        Args:
            turn: One for all of them; held while one is committed.
        """
        async with open_chunk(self._run, self._resources, turn=turn) as chunk:
            yield chunk
        if chunk.saved_state is not None:
            self.checkpoint = chunk.saved_state

    def abandon(self) -> None:
        """Cut the connection of a chunk that was left open; the server rolls it back."""
        if self._chunk is not None:
            self._chunk.connection.terminate()

    async def save(self, checkpoint: Checkpoint) -> None:
        """Write a yielded checkpoint.

        Raises:
            LeaseLostError: This run's lease is gone; nothing was written.
        """
        async with open_chunk(self._run, self._resources) as chunk:
            chunk.checkpoint(checkpoint.state, done=checkpoint.done, total=checkpoint.total)
        self.checkpoint = checkpoint.state
