"""`load.file`: a file becomes a table."""

from __future__ import annotations

from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.pipeline import load_file

__all__ = ["LoadFileArgs", "load_file"]
