"""Jobs, their events, idempotency keys, tasks, queues, workers and task state.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

from dataloader.storage.migrations.steps import run_folder

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the statements of `sql/0001/`."""
    run_folder(revision)
