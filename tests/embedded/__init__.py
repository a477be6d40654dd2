"""The embedded server against real processes, real signals and real PostgreSQL."""

from __future__ import annotations
