"""What must hold before a process works: a database that answers, with the schema this version needs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TypeVar

import asyncpg
from sqlalchemy.exc import DBAPIError

from dataloader.base import wait_for
from dataloader.config import QueueWorkers, Settings
from dataloader.context import AppContext
from dataloader.exceptions import DatabaseAwayError, SettingsError
from dataloader.logger import Logger
from dataloader.storage.db import connect
from dataloader.storage.migrate import check_version, migrate
from dataloader.workers.base import tasks_of
from dataloader.workers.pipelines.registry import Registry

OLDEST_MAJOR, NEWEST_MAJOR = 15, 18
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 2.0

T = TypeVar("T")


async def unless_stopped(work: Coroutine[object, object, T], stop: asyncio.Event) -> T | None:
    """Return what `work` returns, or None if `stop` was set before; the work is cancelled then."""
    job, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({job, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        if not job.done():
            job.cancel()
            await asyncio.wait({job})
    return None if job.cancelled() else job.result()


async def await_database(ctx: AppContext, *, migrating: bool, stop: asyncio.Event) -> None:
    """Wait until the database answers, and see that its schema fits.

    Args:
        ctx: The process.
        migrating: Bring the schema to this version instead of refusing another.
        stop: Ends the wait.

    Raises:
        SettingsError: The server refuses us for good, or is too old.
        SchemaVersionError: The schema does not fit; the message says what to do.
    """
    await patiently(lambda: _prepare(ctx, migrating=migrating), stop=stop, logger=ctx.loggers.app)


async def patiently(
    attempt: Callable[[], Awaitable[None]], *, stop: asyncio.Event, logger: Logger, pause_s: float = _FIRST_PAUSE_S
) -> None:
    """Repeat `attempt` while the database is away; one line in the log when it is, one when it is back."""
    away = False
    while not stop.is_set():
        try:
            await attempt()
        except DatabaseAwayError as error:
            if not away:
                logger.warning("database away, waiting for it", reason=error.message)
            away = True
        else:
            if away:
                logger.info("database is there")
            return
        await wait_for(stop, pause_s)
        pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)


async def _prepare(ctx: AppContext, *, migrating: bool) -> None:
    await check_server(ctx.settings)
    with granted():
        if migrating or ctx.settings.dl_auto_migrate:
            await migrate(ctx.settings)
        else:
            await check_version(ctx.engine, ctx.settings.pg_schema)


@contextmanager
def granted() -> Iterator[None]:
    """Turn "permission denied" into a sentence.

    Raises:
        SettingsError: The role lacks a privilege.
    """
    try:
        yield
    except Exception as error:
        cause = lacking_privilege(error)
        if cause is None:
            raise
        raise SettingsError(
            f"PG_USER or DL_DB_DSN: the role lacks a privilege ({cause}); `dataloader doctor` looks for more"
        ) from error


def lacking_privilege(error: BaseException | None) -> asyncpg.InsufficientPrivilegeError | None:
    """Return the server's "permission denied" in an error, a group of errors or what SQLAlchemy made of it."""
    match error:
        case asyncpg.InsufficientPrivilegeError():
            return error
        case DBAPIError():
            return lacking_privilege(error.orig.__cause__ if error.orig else None)
        case BaseExceptionGroup():
            return next(filter(None, map(lacking_privilege, error.exceptions)), None)
        case _:
            return None


async def check_server(settings: Settings) -> int:
    """Return the server's major version.

    Raises:
        SettingsError: It is too old, or refuses us.
        DatabaseAwayError: It cannot be reached.
    """
    connection = await connect(settings, purpose="check")
    try:
        major: int = connection.get_server_version().major
    finally:
        connection.terminate()
    if major < OLDEST_MAJOR:
        raise SettingsError(
            f"PG_HOST or DL_DB_DSN: the server is PostgreSQL {major}; this needs {OLDEST_MAJOR} to {NEWEST_MAJOR}"
        )
    return major


def check_queues(settings: Settings, registry: Registry, logger: Logger, *, must_work: bool) -> None:
    """See that there is something to work on; a queue in vain is worth a warning.

    Args:
        settings: They name the queues.
        registry: The known tasks.
        logger: Told of queues in vain.
        must_work: The process is there for nothing else.

    Raises:
        SettingsError: It must work, and no task runs on any of the queues.
    """
    idle = idle_queues(settings.workers_json or (), registry)
    for queue in idle:
        logger.warning("no known task runs on this queue of WORKERS_JSON", queue=queue)
    if must_work and settings.workers_json and len(idle) == len(settings.workers_json):
        raise SettingsError(
            f"WORKERS_JSON: no known task runs on {', '.join(idle)}; known queues are {', '.join(registry.queues())} "
            "(DL_PIPELINES names modules with more tasks)"
        )


def idle_queues(workers: tuple[QueueWorkers, ...], registry: Registry) -> list[str]:
    """Return the queues that no known task runs on."""
    return [worker.queue for worker in workers if not tasks_of(worker, registry)]
