"""The loggers of a process."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import NoReturn, Self

import structlog
from structlog.stdlib import BoundLogger
from structlog.typing import EventDict, WrappedLogger

from dataloader.logger.masking import Masker

Logger = BoundLogger
"""What the rest of the package logs with: a constant message, the facts bound."""


@dataclass(frozen=True, slots=True)
class Loggers:
    """The three logs of a process, open until `close`.

    Attributes:
        app: What happens, for people who operate the service.
        metric: Measurements.
        audit: Who did what.
        masker: Masks the lines; mask with it whatever else leaves the process.
    """

    app: Logger
    metric: Logger
    audit: Logger
    masker: Masker
    _resources: ExitStack = field(default_factory=ExitStack, repr=False)

    @classmethod
    def silent(cls) -> Self:
        """Return loggers that write nothing and touch nothing, for tests and tools."""
        logger = BoundLogger(logging.getLogger("dataloader.silent"), processors=(_drop,), context={})
        return cls(app=logger, metric=logger, audit=logger, masker=Masker())

    def close(self) -> None:
        """Write what waits, close the files and leave logging as it was found; a second call does nothing."""
        self._resources.close()


def _drop(_: WrappedLogger, __: str, ___: EventDict) -> NoReturn:
    raise structlog.DropEvent
