"""`load.sql`: a query or table of another PostgreSQL becomes a table here."""

from __future__ import annotations

from dataloader.workers.pipelines.load_sql.args import LoadSqlArgs
from dataloader.workers.pipelines.load_sql.pipeline import load_sql

__all__ = ["LoadSqlArgs", "load_sql"]
