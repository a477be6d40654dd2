"""The HTTP API: it turns requests into rows and rows into answers, and never talks to workers."""

from __future__ import annotations
