"""The crash matrix: every fault in every seam of the service, under load, checked by histories."""

from __future__ import annotations
