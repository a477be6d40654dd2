"""The built-in pipelines and the registry that all pipelines enter."""

from __future__ import annotations
