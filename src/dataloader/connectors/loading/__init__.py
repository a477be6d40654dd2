"""Into tables: COPY, stage and merge, a new table in place of the old one, and rows that do not fit."""

from __future__ import annotations

from dataloader.connectors.loading.copying import CsvFormat, Piece
from dataloader.connectors.loading.rows import BadRow, RowError
from dataloader.connectors.loading.shape import TableShape, describe_table

__all__ = ["BadRow", "CsvFormat", "Piece", "RowError", "TableShape", "describe_table"]
