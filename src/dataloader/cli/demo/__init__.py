"""`dataloader demo`: a real load, killed in the middle, that goes on from its checkpoint."""

from __future__ import annotations
