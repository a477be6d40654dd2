"""What `load.sql` is asked to load, and how."""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dataloader.connectors.identifiers import TableName, check_identifier, parse_table, parse_target
from dataloader.connectors.tables import check_type
from dataloader.workers.pipelines.checks import checked
from dataloader.workers.pipelines.expect import Expect
from dataloader.workers.pipelines.target import Wish

Column = Annotated[str, Field(min_length=1, max_length=63)]


class LoadSqlArgs(BaseModel):
    """A query or table of a database that the settings name, and the table its rows go into."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connection: Annotated[str, Field(min_length=1, description="Name of a database in DL_CONNECTIONS.")]
    query: Annotated[str | None, Field(min_length=1, description="What to read: a single query.")] = None
    source_table: Annotated[
        str | None, Field(min_length=1, description="Or a table or view, `name` or `schema.name`.")
    ] = None
    table: Annotated[str, Field(min_length=1, description="Target, `name` or `schema.name`.")]
    mode: Annotated[
        Literal["append", "replace", "merge"],
        Field(description="Add rows; put them in the place of the old ones at once, at the end; or update by key."),
    ] = "append"
    primary_key: Annotated[list[Column], Field(description="Columns that tell rows apart; needed to merge.")] = []
    incremental_key: Annotated[
        Column | None,
        Field(description="A column that grows (a sequence, a time of change): only rows beyond the last load's."),
    ] = None
    full_refresh: Annotated[
        bool, Field(description="Load from the beginning, whatever was loaded before; append adds the rows once more.")
    ] = False
    columns: Annotated[dict[Column, str], Field(description="Name to type, over those of the source.")] = {}
    create_table: Annotated[bool, Field(description="Create the table if it is missing.")] = True
    on_schema_change: Annotated[
        Literal["freeze", "evolve"],
        Field(description="Refuse columns that the table lacks, or add them and widen types."),
    ] = "freeze"
    expect: Annotated[Expect | None, Field(description="What must hold of the table at the end.")] = None
    min_rows: Annotated[
        int | None, Field(ge=0, description="Fewer rows than these are a failure; 1, and 0 for incremental loads.")
    ] = None
    chunk_rows: Annotated[
        int | None,
        Field(ge=1, le=100_000_000, description="Rows per transaction; by default as many as take two seconds."),
    ] = None
    wait_s: Annotated[
        float, Field(ge=0, le=3_600, description="How long to wait for open transactions of the source.")
    ] = 30

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        checked(lambda: parse_target(value, schema="public"))
        return value

    @field_validator("source_table")
    @classmethod
    def _check_source(cls, value: str | None) -> str | None:
        if value is not None:
            checked(lambda: parse_table(value, schema="public"))
        return value

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: dict[str, str]) -> dict[str, str]:
        return checked(lambda: {check_identifier(name): check_type(kind) for name, kind in value.items()})

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.query is None) == (self.source_table is None):
            raise ValueError("give either query or source_table")
        if self.mode == "merge" and not self.primary_key:
            raise ValueError("mode=merge needs primary_key: the columns that tell rows apart")
        if self.mode == "replace" and self.incremental_key is not None:
            raise ValueError("mode=replace loads everything; incremental_key goes with append or merge")
        return self

    @property
    def wish(self) -> Wish:
        """What is asked for of the table."""
        return Wish(
            self.mode,
            tuple(self.primary_key),
            self.columns,
            create=self.create_table,
            evolve=self.on_schema_change == "evolve",
            key_orders=True,
        )

    @property
    def least_rows(self) -> int:
        """Fewer rows than these are a failure."""
        return (0 if self.incremental_key else 1) if self.min_rows is None else self.min_rows

    def mark_name(self, source: str, target: TableName) -> str:
        """Return under which name the task keeps how far a source has been loaded into a table.

        Args:
            source: The table or query as SQL, however it was spelled.
            target: The table.
        """
        what = hashlib.sha256(" ".join(source.split()).encode()).hexdigest()[:32]
        return f"{self.connection}/{what}/{self.incremental_key}/{target.sql}"
