"""The examples, run against a real PostgreSQL by a real worker."""

from __future__ import annotations
