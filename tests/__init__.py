"""Tests of Dataloader."""

from __future__ import annotations
