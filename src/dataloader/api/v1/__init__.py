"""Version 1 of the API."""

from __future__ import annotations
