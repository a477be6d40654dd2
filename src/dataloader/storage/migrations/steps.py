"""Runs the statements of one migration: SQL files in order, `--;` on a line of its own between statements."""

from __future__ import annotations

from importlib.resources import files

from alembic import context, op
from sqlalchemy import text

from dataloader.storage.queries import in_schema

SEPARATOR = "\n--;\n"


def run_folder(revision: str) -> None:
    """Execute every statement of `sql/<revision>/` in the schema that is being migrated."""
    schema: str = context.config.attributes["schema"]
    folder = files("dataloader.storage.migrations").joinpath("sql", revision)
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        for statement in file.read_text("utf-8").strip().split(SEPARATOR):
            op.execute(text(in_schema(statement, schema).replace(":", "\\:")))
