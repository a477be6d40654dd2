"""The Python client: every operation of the HTTP API, with typed answers and the project's errors."""

from __future__ import annotations

from dataloader.api.v1.fleet_schemas import QueueView, TaskView, WorkerView
from dataloader.api.v1.schemas import (
    BulkItem,
    JobChunkView,
    JobDetail,
    JobEventView,
    JobProgress,
    JobState,
    JobStatusView,
    JobSummary,
    JobWhy,
    WaitReason,
)
from dataloader.client.client import DataloaderClient
from dataloader.client.errors import UnreachableError
from dataloader.client.requests import JobFilter, TriggerOptions
from dataloader.client.transport import Patience

__all__ = [
    "BulkItem",
    "DataloaderClient",
    "JobChunkView",
    "JobDetail",
    "JobEventView",
    "JobFilter",
    "JobProgress",
    "JobState",
    "JobStatusView",
    "JobSummary",
    "JobWhy",
    "Patience",
    "QueueView",
    "TaskView",
    "TriggerOptions",
    "UnreachableError",
    "WaitReason",
    "WorkerView",
]
