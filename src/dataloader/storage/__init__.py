"""Everything that speaks to the service's own PostgreSQL."""

from __future__ import annotations
