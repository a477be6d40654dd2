"""Tests of the Python client."""

from __future__ import annotations
