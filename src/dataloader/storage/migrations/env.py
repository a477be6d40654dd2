"""Alembic's entry: runs the migrations on the connection that `dataloader.storage.migrate` hands over, or as text."""

from __future__ import annotations

from alembic import context

from dataloader.storage.models import Base

VERSION_TABLE = "dl_alembic_version"

attributes = context.config.attributes
context.configure(
    connection=attributes.get("connection"),
    dialect_name="postgresql",
    dialect_opts={"paramstyle": "named"},  # the default style would double every % of the text
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    version_table_schema=attributes["schema"],
    transaction_per_migration=False,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
