"""`unload.table`: a table or query becomes files."""

from __future__ import annotations

from dataloader.workers.pipelines.unload_table.args import UnloadTableArgs
from dataloader.workers.pipelines.unload_table.pipeline import unload_table

__all__ = ["UnloadTableArgs", "unload_table"]
