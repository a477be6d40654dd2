"""Opening the logs of a process, once, and closing them."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import structlog
from structlog.stdlib import BoundLogger

from dataloader.config import Settings
from dataloader.exceptions import SettingsError
from dataloader.logger.handlers import Background, Console, SharedFile
from dataloader.logger.loggers import Logger, Loggers
from dataloader.logger.masking import Masker
from dataloader.logger.rendering import CALL_CHAIN, human_formatter, json_formatter

_APP, _METRIC, _AUDIT = "dataloader", "dataloader.metric", "dataloader.audit"
_NOISY = ("aiohttp", "alembic", "asyncio", "httpcore", "httpx", "httpx2", "sqlalchemy", "urllib3", "uvicorn")
_OFF = logging.CRITICAL + 1


def open_loggers(settings: Settings, *, stream: TextIO | None = None) -> Loggers:
    """Open the three logs and take over the standard library's logging; the caller closes them.

    Args:
        settings: Levels, paths and the secrets to mask.
        stream: The console; standard error when None.

    Raises:
        SettingsError: When a log file cannot be written; names the variable.
    """
    masker = Masker.from_settings(settings)
    with ExitStack() as stack:
        app = _app_handler(stack, settings, masker, stream=stream or sys.stderr)
        metric = _file_handler(
            stack, masker, settings.metric_path, name=settings.metric_file_name, variable="METRIC_PATH"
        )
        audit = _file_handler(
            stack,
            masker,
            settings.audit_log_path,
            name=settings.audit_log_file_name,
            variable="AUDIT_LOG_PATH",
        )
        _take_over_ours(stack, settings, metric=metric, audit=audit)
        _take_over_libraries(stack, _level(settings), app)
        _configure_structlog(stack)
        resources = stack.pop_all()
    return Loggers(_logger(_APP), _logger(_METRIC, log="metric"), _logger(_AUDIT, log="audit"), masker, resources)


def _level(settings: Settings) -> int:
    return logging.DEBUG if settings.debug else logging.getLevelNamesMapping()[settings.log_level]


def _logger(name: str, **facts: str) -> Logger:
    return BoundLogger(logging.getLogger(name), processors=CALL_CHAIN, context=facts)


def _app_handler(stack: ExitStack, settings: Settings, masker: Masker, *, stream: TextIO) -> logging.Handler:
    file = _file_handler(stack, masker, settings.log_path, name=settings.log_file_name, variable="LOG_PATH")
    return file or _background(stack, Console(stream), _console_formatter(settings, masker, terminal=stream.isatty()))


def _console_formatter(settings: Settings, masker: Masker, *, terminal: bool) -> logging.Formatter:
    """Return a formatter for whoever reads the console: a person or a collector of logs."""
    if terminal or settings.local or settings.debug:
        return human_formatter(masker, colors=terminal)
    return json_formatter(masker)


def _file_handler(
    stack: ExitStack, masker: Masker, directory: Path | None, *, name: str, variable: str
) -> logging.Handler | None:
    """Open the log file that `variable` asks for, or return None when it is not set."""
    if directory is None:
        return None
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = SharedFile(directory / name)
    except OSError as error:
        raise SettingsError(f"{variable}: {directory / name} cannot be written: {error.strerror}") from None
    return _background(stack, file, json_formatter(masker))


def _background(stack: ExitStack, sink: logging.Handler, formatter: logging.Formatter) -> logging.Handler:
    handler = Background(sink, formatter)
    stack.callback(handler.close)
    return handler


def _take_over_ours(
    stack: ExitStack, settings: Settings, *, metric: logging.Handler | None, audit: logging.Handler | None
) -> None:
    """Route our logs; without a file of their own the application log takes them, metrics only at DEBUG."""
    for name in (_APP, _METRIC, _AUDIT):
        # Closed last and for good: a late line would reach logging's last-resort handler unmasked.
        stack.callback(setattr, logging.getLogger(name), "disabled", True)
    level = _level(settings)
    always = min(level, logging.INFO)
    shared = level if level == logging.DEBUG else _OFF
    _route(stack, _APP, level=level)
    _route(stack, _METRIC, level=always if metric else shared, handler=metric, propagate=metric is None)
    _route(stack, _AUDIT, level=always, handler=audit, propagate=audit is None)


def _take_over_libraries(stack: ExitStack, level: int, app: logging.Handler) -> None:
    """Send every other logger of the process to the application log, the talkative ones from WARNING on."""
    _route(stack, "", level=level, handler=app)
    for name in _NOISY:
        _route(stack, name, level=max(level, logging.WARNING))
    _route(stack, "uvicorn.error")
    _route(stack, "uvicorn.access", disabled=True)


def _route(
    stack: ExitStack,
    name: str,
    *,
    level: int = logging.NOTSET,
    handler: logging.Handler | None = None,
    propagate: bool = True,
    disabled: bool = False,
) -> None:
    """Give a logger this level and at most one handler of its own until the stack closes."""
    logger = logging.getLogger(name)
    stack.callback(_set, logger, logger.level, logger.handlers[:], propagate=logger.propagate, disabled=logger.disabled)
    _set(logger, level, [handler] if handler else [], propagate=propagate, disabled=disabled)


def _set(
    logger: logging.Logger, level: int, handlers: list[logging.Handler], *, propagate: bool, disabled: bool
) -> None:
    logger.setLevel(level)
    logger.handlers[:] = handlers
    logger.propagate = propagate
    logger.disabled = disabled


def _configure_structlog(stack: ExitStack) -> None:
    """Let `structlog.get_logger()` in the code of a pipeline log like ours."""
    stack.callback(structlog.reset_defaults)
    structlog.configure(
        processors=CALL_CHAIN, wrapper_class=BoundLogger, logger_factory=structlog.stdlib.LoggerFactory()
    )
