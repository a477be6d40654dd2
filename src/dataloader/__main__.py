"""`python -m dataloader` is the same as `dataloader`."""

from __future__ import annotations

from dataloader.cli import main

if __name__ == "__main__":
    main()
