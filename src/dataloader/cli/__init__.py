"""The command line; `main` is the console script."""

from __future__ import annotations

from dataloader.cli.app import main

__all__ = ["main"]
