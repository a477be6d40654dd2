"""The child of a run: takes the job from a pipe, runs it as inline with a connection of its own, ends."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import resource
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO

import asyncpg

from dataloader.config import Settings
from dataloader.connectors.files import open_files
from dataloader.connectors.http import HttpClient
from dataloader.domain.outcomes import Outcome
from dataloader.logger import open_loggers
from dataloader.storage.complaints import log_complaints
from dataloader.storage.db import Connection, connect
from dataloader.storage.repositories.presence import PresenceRepository
from dataloader.storage.repositories.queue import QueueRepository
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.chunks import Resources
from dataloader.workers.executors.frames import outcome_frame, state_frame
from dataloader.workers.pipelines.registry import load_all
from dataloader.workers.runner import Runner
from dataloader.workers.runs import Run, StopReason

PERIOD_S = 0.05
_PR_SET_PDEATHSIG = 1
_LOG_PATHS = ("log_path", "metric_path", "audit_log_path")


def main(frames_fd: int) -> None:
    """Run one job; frames go to a file descriptor, what is printed to standard output."""
    _die_with_parent()
    parent = os.fdopen(os.dup(0), "rb", 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    (size,) = struct.unpack("!I", _read(parent, 4))
    settings, path, job = pickle.loads(_read(parent, size))  # noqa: S301 - from the parent
    sys.path[:] = path
    _limit_memory(settings.dl_child_memory_mb)
    # A run's time is the time since its claim: the import of the pipelines counts.
    run = Run(job, load_all(settings.dl_pipelines).get(job.task), claim_sent_s=0.0)
    threading.Thread(target=_obey, args=(parent, run), daemon=True).start()
    with os.fdopen(frames_fd, "wb", 0) as frames:
        outcome = asyncio.run(_serve(settings, run, frames))
        frames.write(outcome_frame(outcome))
    sys.stdout.flush()
    # A thread of a plain function may go on for ever.
    os._exit(0)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _limit_memory(limit_mb: int | None) -> None:
    """Limit what the process allocates; macOS takes the limit and does not keep it."""
    if limit_mb is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit_mb << 20, limit_mb << 20))


def _read(stream: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size:
        if not (block := stream.read(size - len(data))):
            os._exit(1)
        data += block
    return data


def _obey(parent: BinaryIO, run: Run) -> None:
    """Take reasons to stop; the end of the pipe is the parent's end, and this process's."""
    while said := parent.read(1):
        run.request_stop(StopReason(said[0]))
    os._exit(1)


async def _serve(settings: Settings, run: Run, frames: BinaryIO) -> Outcome:
    # What the child logs goes to the parent, which writes the files.
    loggers = open_loggers(settings.model_copy(update=dict.fromkeys(_LOG_PATHS)))
    log_complaints(asyncio.get_running_loop(), loggers.app)

    async def opener(_dsn: object, **options: Any) -> Connection:
        return await connect(settings, purpose="pipelines", command_timeout_s=None, **options)

    pool: asyncpg.Pool[asyncpg.Record] = await asyncpg.create_pool(  # type: ignore[call-overload]
        connect=opener, min_size=0, max_size=settings.pg_pool_size
    )
    schema = settings.pg_schema
    queue = QueueRepository(schema, lease_s=settings.dl_default_lease_ttl_sec)
    async with HttpClient() as http:
        files = open_files(settings)
        resources = Resources(settings, pool, http, files, queue, Metrics(), PresenceRepository(schema))
        task = asyncio.create_task(Runner(resources, loggers).execute(run))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        said = b""
        while True:
            done, _ = await asyncio.wait([task], timeout=PERIOD_S)
            if (now := state_frame(run)) != said:
                said = now
                frames.write(said)
            if done:
                break
        pool.terminate()
        await files.close()
    loggers.close()
    return task.result()


if __name__ == "__main__":
    main(int(sys.argv[1]))
