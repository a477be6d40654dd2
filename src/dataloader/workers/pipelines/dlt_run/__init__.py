"""`dlt.run`: a dlt source of the user's is loaded in a child process."""

from __future__ import annotations

from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
from dataloader.workers.pipelines.dlt_run.pipeline import dlt_run

__all__ = ["DltRunArgs", "dlt_run"]
