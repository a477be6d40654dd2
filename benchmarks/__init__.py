"""Measures the service beside raw asyncpg, in one run on one server: `make bench`."""

from __future__ import annotations
