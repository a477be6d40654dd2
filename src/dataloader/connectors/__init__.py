"""Sources and sinks: HTTP with retries and limits, and tables of PostgreSQL with checked names."""

from __future__ import annotations
