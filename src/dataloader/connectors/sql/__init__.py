"""Other PostgreSQL databases as sources: what a query gives, and its rows by COPY."""

from __future__ import annotations

from dataloader.connectors.sql.named import named_dsn
from dataloader.connectors.sql.pipe import copy_across
from dataloader.connectors.sql.source import SqlSource, open_source

__all__ = ["SqlSource", "copy_across", "named_dsn", "open_source"]
