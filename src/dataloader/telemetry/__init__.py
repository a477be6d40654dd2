"""Measurements of a process: counted here, rendered for Prometheus."""

from __future__ import annotations
