"""Runs a pipeline in a child process: the parent keeps lease, clocks and stop, the child commits behind the fence."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import struct
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import suppress

from dataloader.config import Settings
from dataloader.domain.outcomes import Outcome
from dataloader.exceptions import ChildDiedError
from dataloader.logger import Loggers, bind_job
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.executors.frames import FRAME_LIMIT_BYTES, take_frame
from dataloader.workers.runner import Runner
from dataloader.workers.runs import Run, StopReason

PERIOD_S = 0.05
TERM_GRACE_S = 1.0
"""From SIGTERM to SIGKILL; the cancel ladder has waited before."""
_OUTPUT_LIMIT = 2_000
_CHUNK_BYTES = 1 << 16


class Children:
    """Child processes of one event loop, a new one per run.

    Args:
        settings: Sent to the child by a pipe; never on its command line, and taken out of its environment.
        loggers: Take what the child prints.
        metrics: Count the rows that children write.
        runner: Says what the end of a child without an outcome means.
    """

    def __init__(self, settings: Settings, loggers: Loggers, metrics: Metrics, runner: Runner) -> None:
        self._settings = settings
        self._metrics = metrics
        self._loggers = loggers
        self._runner = runner
        self._room = asyncio.Semaphore(settings.dl_children_max)

    async def execute(self, run: Run) -> Outcome:
        """Run a job in a child and say how it ended; the child is dead and reaped afterwards."""
        with bind_job(run.lease.job_id, run.job.task, run.lease.epoch):
            try:
                async with self._room:
                    return await self._execute(run)
            except (asyncio.CancelledError, OSError, ValueError, ChildDiedError, BaseExceptionGroup) as error:
                return self._runner.ended_by(run, error)

    async def _execute(self, run: Run) -> Outcome:
        reading, writing = os.pipe()
        reader = asyncio.StreamReader(limit=FRAME_LIMIT_BYTES)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
        )
        try:
            try:
                process = await self._spawn(writing)
            finally:
                os.close(writing)
            try:
                return await self._talk(run, process, reader)
            finally:
                await _end(process)
        finally:
            transport.close()

    async def _spawn(self, frames_fd: int) -> Process:
        secret = {name.upper() for name in Settings.model_fields}
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "dataloader.workers.executors.child",
            str(frames_fd),
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=(frames_fd,),
            env={name: value for name, value in os.environ.items() if name.upper() not in secret},
            start_new_session=True,
        )

    async def _talk(self, run: Run, process: Process, reader: asyncio.StreamReader) -> Outcome:
        async with asyncio.TaskGroup() as group:
            relaying = group.create_task(_relay(run, process, self._settings))
            others = [group.create_task(self._log_output(process)), relaying]
            listening = group.create_task(self._listen(run, reader))
            try:
                outcome = await asyncio.shield(listening)
            except asyncio.CancelledError:
                _signal(process, signal.SIGTERM)
                await asyncio.wait([listening], timeout=TERM_GRACE_S)
                if not listening.done():
                    listening.cancel()
                    raise
                outcome = listening.result()
            finally:
                if listening.done():
                    await _end(process)
                    await asyncio.wait(others[:1], timeout=TERM_GRACE_S)
                for task in others:
                    task.cancel()
        if outcome is None:
            raise ChildDiedError(_cause(process.returncode, self._settings.dl_child_memory_mb))
        return outcome

    async def _listen(self, run: Run, reader: asyncio.StreamReader) -> Outcome | None:
        while line := await reader.readline():
            before = run.rows
            outcome = take_frame(run, line)
            self._metrics.rows_loaded(run.job.task, max(run.rows - before, 0))
            if outcome is not None:
                return outcome
        return None

    async def _log_output(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        rest = b""
        while block := await process.stdout.read(_CHUNK_BYTES):
            *lines, rest = (rest + block).split(b"\n")
            rest = rest[-_OUTPUT_LIMIT:]
            for line in lines:
                self._say(line)
        self._say(rest)

    def _say(self, line: bytes) -> None:
        if text := line[:_OUTPUT_LIMIT].decode(errors="replace").strip():
            self._loggers.app.info("output of the pipeline", text=text)


async def _relay(run: Run, process: Process, settings: Settings) -> None:
    """Send the job, and then each new reason to stop."""
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    job = pickle.dumps((settings, tuple(sys.path), run.job))
    said: StopReason | None = None
    with suppress(OSError):
        process.stdin.write(struct.pack("!I", len(job)) + job)
        while True:
            await process.stdin.drain()
            if run.stop is not None and run.stop is not said:
                said = run.stop
                process.stdin.write(bytes([said]))
            await asyncio.sleep(PERIOD_S)


def _signal(process: Process, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


async def _end(process: Process) -> None:
    """Kill the child and what it started, and reap it; also in a task that was cancelled.

    Not with `asyncio.timeout`: before Python 3.11.3 its end is taken for the cancellation of such a task.
    """
    if process.returncode is None:
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), TERM_GRACE_S)
    _signal(process, signal.SIGKILL)
    await process.wait()


def _cause(code: int | None, limit_mb: int | None) -> str:
    limit = "no memory limit was set" if limit_mb is None else f"its memory limit was {limit_mb} MB"
    if code is not None and code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
    else:
        how = f"ended by itself with exit code {code}"
    return f"the pipeline's process {how} ({limit}, see DL_CHILD_MEMORY_MB); the next attempt goes on at its checkpoint"
