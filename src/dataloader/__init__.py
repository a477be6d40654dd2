"""Dataloader runs long ETL jobs from a queue in PostgreSQL and accounts for every one of them."""

from __future__ import annotations
