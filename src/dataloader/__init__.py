"""Dataloader runs long ETL jobs from a queue in PostgreSQL and accounts for every one of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dataloader.exceptions import PermanentError, RetryLater
    from dataloader.workers.job_context import Checkpoint, JobContext
    from dataloader.workers.pipelines.registry import register

__all__ = ["Checkpoint", "JobContext", "PermanentError", "RetryLater", "register"]

_HOMES = {
    "Checkpoint": "dataloader.workers.job_context",
    "JobContext": "dataloader.workers.job_context",
    "PermanentError": "dataloader.exceptions",
    "RetryLater": "dataloader.exceptions",
    "register": "dataloader.workers.pipelines.registry",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for, so that each layer can be imported by itself."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dataloader' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
