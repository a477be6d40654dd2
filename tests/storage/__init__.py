"""Tests of statements against a real PostgreSQL."""

from __future__ import annotations
