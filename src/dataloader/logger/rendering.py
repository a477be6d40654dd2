"""How a line is made: one chain for our own loggers and for those of the libraries."""

from __future__ import annotations

import json
import logging
from typing import Final

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, Processor, WrappedLogger

from dataloader.logger.context import merge_bound
from dataloader.logger.masking import Masker

_FACTS: Final[tuple[Processor, ...]] = (
    structlog.contextvars.merge_contextvars,
    merge_bound,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)

CALL_CHAIN: Final[tuple[Processor, ...]] = (
    structlog.stdlib.filter_by_level,
    *_FACTS,
    structlog.processors.StackInfoRenderer(),
    ProcessorFormatter.wrap_for_formatter,
)
"""What happens to a line of ours before the standard library's logging gets it."""


def json_formatter(masker: Masker) -> logging.Formatter:
    """Return a formatter that writes one JSON object per line."""
    return _formatter(masker, structlog.processors.JSONRenderer(json.dumps, default=str, ensure_ascii=False))


def human_formatter(masker: Masker, *, colors: bool) -> logging.Formatter:
    """Return a formatter for people at a console."""
    plain = structlog.dev.plain_traceback
    return _formatter(masker, structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain))


def _formatter(masker: Masker, renderer: Processor) -> logging.Formatter:
    return ProcessorFormatter(
        foreign_pre_chain=(*_FACTS, structlog.stdlib.add_logger_name),
        processors=(
            ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _masked_by(masker),
            renderer,
        ),
    )


def _masked_by(masker: Masker) -> Processor:
    def mask(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
        """Mask the line, with time, level and message in front."""
        ours = {name: event_dict.pop(name) for name in ("timestamp", "level")}
        return {**ours, **masker.fields({"event": event_dict.pop("event", None), **event_dict})}

    return mask
