"""Logs: application, metric and audit lines, structured, masked and written beside the event loop."""

from __future__ import annotations

from dataloader.logger.context import bind_job, bind_request
from dataloader.logger.loggers import Logger, Loggers
from dataloader.logger.masking import Masker
from dataloader.logger.setup import open_loggers

__all__ = ["Logger", "Loggers", "Masker", "bind_job", "bind_request", "open_loggers"]
