"""For tests of pipelines and for the demo: sources on this machine that behave like the published ones."""

from __future__ import annotations
