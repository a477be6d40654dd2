"""Tests of what runs jobs."""

from __future__ import annotations
