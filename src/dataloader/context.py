"""AppContext: what lives as long as the process, opened and closed in order."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncEngine

from dataloader.config import Settings
from dataloader.logger import Loggers, open_loggers
from dataloader.storage.db import open_engine
from dataloader.storage.notifier import Notifier
from dataloader.storage.notify_listener import NotifyListener
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class AppContext:
    """Everything a part of the process may need; it is passed on, never looked up.

    Attributes:
        process_id: New at every start; names this process in leases and in the audit log.
        started_s: Monotonic time of the start.
        engine: The pool for warm paths; hot paths pin connections of their own.
    """

    settings: Settings
    loggers: Loggers
    engine: AsyncEngine
    listener: NotifyListener
    notifier: Notifier
    intake: IntakeRepository
    metrics: Metrics = field(default_factory=Metrics)
    process_id: UUID = field(default_factory=uuid4)
    started_s: float = field(default_factory=time.monotonic)


@asynccontextmanager
async def open_context(settings: Settings) -> AsyncIterator[AppContext]:
    """Open what the process shares, and close it in reverse order.

    Raises:
        SettingsError: A log file cannot be written.
    """
    loggers = open_loggers(settings)
    engine = open_engine(settings)
    listener = NotifyListener(settings, loggers.app)
    notifier = Notifier(settings, tell_here=listener.dispatch, own_pid=listener.ignore, logger=loggers.app)
    try:
        yield AppContext(
            settings=settings,
            loggers=loggers,
            engine=engine,
            listener=listener,
            notifier=notifier,
            intake=IntakeRepository(settings.pg_schema),
        )
    finally:
        await engine.dispose()
        loggers.close()
