"""A PostgreSQL of our own: found, initialised, started, shared between processes, and stopped by the last of them."""

from __future__ import annotations

from dataloader.embedded.errors import EmbeddedServerError
from dataloader.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "EmbeddedServerError"]
