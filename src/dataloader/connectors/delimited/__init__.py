"""CSV: its dialect, its columns and their types as a sample suggests them, and cutting it where records end."""

from __future__ import annotations

from dataloader.connectors.delimited.cutter import RecordReader
from dataloader.connectors.delimited.dialect import Dialect, find_dialect
from dataloader.connectors.delimited.sample import Sample, read_sample

__all__ = ["Dialect", "RecordReader", "Sample", "find_dialect", "read_sample"]
