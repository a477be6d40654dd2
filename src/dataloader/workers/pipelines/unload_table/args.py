"""What `unload.table` is asked to write, and where."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dataloader.connectors.identifiers import check_identifier, parse_table
from dataloader.connectors.unloading import Compression, Csv, Form, Parquet
from dataloader.workers.pipelines.checks import checked

PART_BYTES = 100_000_000
_OF_CSV = (None, "none", "gzip")

Column = Annotated[str, Field(min_length=1, max_length=63)]
Sign = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\x09\x20-\x7e]$")]


class UnloadTableArgs(BaseModel):
    """A table or query of a database, the directory its rows go into, and how they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: Annotated[str | None, Field(min_length=1, description="A table or view, `name` or `schema.name`.")] = None
    query: Annotated[str | None, Field(min_length=1, description="Or what to read: a single query.")] = None
    connection: Annotated[
        str | None, Field(min_length=1, description="Name of a database in DL_CONNECTIONS; the service's own if none.")
    ] = None
    target: Annotated[
        str,
        Field(
            min_length=1,
            max_length=1_000,
            description="Directory below one named in DL_TARGET_ROOTS, or `s3://bucket/folder` below one named in "
            "DL_TARGET_BUCKETS.",
        ),
    ]
    format: Annotated[Literal["csv", "parquet"], Field(description="What the files are.")] = "csv"
    compression: Annotated[
        Compression | None,
        Field(description="How files are packed: CSV not at all or by gzip, Parquet by zstd if none."),
    ] = None
    header: Annotated[bool, Field(description="Whether every part begins with the columns' names.")] = True
    delimiter: Annotated[Sign, Field(description="Between fields.")] = ","
    null: Annotated[str, Field(max_length=100, description="How a missing value is written; empty text is quoted.")] = (
        ""
    )
    part_bytes: Annotated[
        int | None,
        Field(ge=1, description=f"About so many bytes per part, before packing; {PART_BYTES:,} unless part_rows is."),
    ] = None
    part_rows: Annotated[int | None, Field(ge=1, le=10_000_000_000, description="So many rows per part.")] = None
    key: Annotated[
        list[Column], Field(description="Columns to order and cut by; else the table's primary key, else one part.")
    ] = []
    overwrite: Annotated[bool, Field(description="Replace an earlier unload in the same directory.")] = False

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str | None) -> str | None:
        if value is not None:
            checked(lambda: parse_table(value, schema="public"))
        return value

    @field_validator("key")
    @classmethod
    def _check_key(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("names a column twice")
        return checked(lambda: [check_identifier(name) for name in value])

    @field_validator("target")
    @classmethod
    def _check_target(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("must not hold NUL bytes")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if (self.query is None) == (self.table is None):
            raise ValueError("give either table or query")
        if self.delimiter == '"':
            raise ValueError("delimiter must differ from the quote")
        if any(sign in self.null for sign in ("\r", "\n", "\0", '"', self.delimiter)):
            raise ValueError("null must not hold line ends, NUL bytes, quotes or the delimiter")
        if self.format == "csv" and self.compression not in _OF_CSV:
            raise ValueError(f"CSV is packed by gzip or not at all, {self.compression} is of Parquet")
        if self.format == "parquet" and (of_csv := self.model_fields_set & {"header", "delimiter", "null"}):
            raise ValueError(f"{', '.join(sorted(of_csv))} is of CSV")
        return self

    def form(self) -> Form:
        """Return how rows are written.

        Raises:
            PermanentError: What writes them is not installed.
        """
        if self.format == "parquet":
            return Parquet(self.compression or "zstd")
        return Csv(self.header, self.delimiter, self.null, self.compression or "none")

    @property
    def counts_bytes(self) -> bool:
        """Whether the bytes of a part are limited, and not only its rows."""
        return self.part_bytes is not None or self.part_rows is None

    def rows_of(self, row_bytes: float) -> int:
        """Return how many rows the next part should have.

        Args:
            row_bytes: About how many bytes a row takes; of no account if only rows are limited.
        """
        by_bytes = max(int((self.part_bytes or PART_BYTES) / row_bytes), 1) if self.counts_bytes else None
        return min(size for size in (self.part_rows, by_bytes) if size is not None)
