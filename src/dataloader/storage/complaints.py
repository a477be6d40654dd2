"""What the event loop complains of goes into the log, not to the terminal with a traceback of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dataloader.logger import Logger
from dataloader.storage.db import is_away


def log_complaints(loop: asyncio.AbstractEventLoop, logger: Logger) -> None:
    """Log what nobody in the program has caught; that a connection died is known where it was used."""

    def complain(_: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        if error is not None and is_away(error):
            logger.debug("a connection ended", reason=str(error))
        else:
            logger.error("left uncaught in the event loop", complaint=context["message"], exc_info=error)

    loop.set_exception_handler(complain)
