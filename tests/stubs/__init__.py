"""Stand-ins for sources we do not own."""

from __future__ import annotations
