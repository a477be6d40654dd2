"""What `load.file` is asked to load, and how."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from dataloader.connectors.delimited.numbers import Writing
from dataloader.connectors.files.encoding import normal_name
from dataloader.connectors.identifiers import check_identifier, parse_target
from dataloader.connectors.tables import check_type
from dataloader.workers.pipelines.checks import checked
from dataloader.workers.pipelines.expect import Expect
from dataloader.workers.pipelines.target import Wish


def _spelled(value: object) -> object:
    return {"\\t": "\t", "tab": "\t"}.get(value, value) if isinstance(value, str) else value


Sign = Annotated[str, Field(min_length=1, max_length=1, pattern=r"^[\x09\x20-\x7e]$"), BeforeValidator(_spelled)]
Column = Annotated[str, Field(min_length=1, max_length=63)]


class LoadFileArgs(BaseModel):
    """A file or several, the table they go into, and how they are written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Annotated[
        str | list[Annotated[str, Field(min_length=1)]],
        Field(
            min_length=1,
            description="Path, pattern of paths (`/data/prices-*.csv`), http or https address, address in a bucket "
            "(`s3://market-data/prices-*.parquet`), or a list of them; plain, gzip, bzip2, xz, zstd or zip.",
        ),
    ]
    table: Annotated[str, Field(min_length=1, description="Target, `name` or `schema.name`.")]
    mode: Annotated[
        Literal["append", "replace", "merge"],
        Field(description="Add rows; put them in the place of the old ones at once, at the end; or update by key."),
    ] = "append"
    primary_key: Annotated[list[Column], Field(description="Columns that tell rows apart; needed to merge.")] = []
    format: Annotated[
        Literal["auto", "csv", "jsonl", "parquet"],
        Field(description="`auto`: Parquet if it begins so, JSON Lines if the first line is an object, else CSV."),
    ] = "auto"
    columns: Annotated[
        dict[Column, str],
        Field(description="Name to type, over what the sample suggests; without a header, all columns in order."),
    ] = {}
    create_table: Annotated[bool, Field(description="Create the table if it is missing.")] = True
    on_schema_change: Annotated[
        Literal["freeze", "evolve"],
        Field(description="Refuse columns that the table lacks, or add them and widen types."),
    ] = "freeze"
    on_error: Annotated[
        Literal["fail", "reject"],
        Field(description="A row that does not fit ends the job, or goes to <table>_rejects."),
    ] = "fail"
    max_rejects: Annotated[int, Field(ge=0, description="Rejected rows that end the job after all.")] = 1_000
    expect: Annotated[Expect | None, Field(description="What must hold of the table at the end.")] = None
    min_rows: Annotated[int, Field(ge=0, description="Fewer rows than these are a failure.")] = 1
    member: Annotated[str | None, Field(description="File inside of a ZIP archive, or a pattern for several.")] = None
    encoding: Annotated[str | None, Field(description="Unless the file says so itself or is UTF-8.")] = None
    delimiter: Annotated[Sign | None, Field(description="Between fields, `\\t` for a tab; found out unless given.")] = (
        None
    )
    quote: Annotated[Sign | Literal[""], Field(description="Around fields; empty for none.")] = '"'
    escape: Annotated[Sign | None, Field(description="Before a quote inside of quotes; the quote itself.")] = None
    null: Annotated[str, Field(max_length=100, description="How a missing value is written.")] = ""
    decimal: Annotated[Literal[".", ","], Field(description="Before the fraction of a number.")] = "."
    thousands: Annotated[
        Literal["", ",", ".", " ", "'", "_"], Field(description="Between the thousands of a number; empty for nothing.")
    ] = ""
    dates: Annotated[
        Literal["ISO", "DMY", "MDY"], Field(description="Order of day and month where the year comes last.")
    ] = "ISO"
    header: Annotated[bool, Field(description="Whether the first record names the columns.")] = True
    skip_lines: Annotated[int, Field(ge=0, le=10_000, description="Lines before the header that are no data.")] = 0
    parallel: Annotated[
        int, Field(ge=1, le=16, description="Pieces of a plain file that are loaded at the same time; not to merge.")
    ] = 1
    chunk_bytes: Annotated[
        int | None,
        Field(
            ge=1,
            le=1 << 30,
            description="Bytes per transaction, 8 MiB at most with on_error=reject; by default as take two seconds.",
        ),
    ] = None

    @field_validator("table")
    @classmethod
    def _check_table(cls, value: str) -> str:
        checked(lambda: parse_target(value, schema="public"))
        return value

    @field_validator("columns")
    @classmethod
    def _check_columns(cls, value: dict[str, str]) -> dict[str, str]:
        return checked(lambda: {check_identifier(name): check_type(kind) for name, kind in value.items()})

    @field_validator("primary_key")
    @classmethod
    def _check_key(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError("names a column twice")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str | None) -> str | None:
        return None if value is None else checked(lambda: normal_name(value))

    @field_validator("null")
    @classmethod
    def _check_null(cls, value: str) -> str:
        if any(sign in value for sign in "\r\n\0"):
            raise ValueError("must not hold line ends or NUL bytes")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.mode == "merge" and not self.primary_key:
            raise ValueError("mode=merge needs primary_key: the columns that tell rows apart")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands must differ")
        if self.parallel > 1 and self.mode == "merge":
            raise ValueError(
                "mode=merge loads one piece after the other: the last row of a key wins; leave parallel at 1"
            )
        if self.delimiter is not None and self.delimiter in {self.quote, self.escape}:
            raise ValueError("delimiter must differ from quote and escape")
        return self

    @property
    def sources(self) -> list[str]:
        """The sources as a list."""
        return [self.source] if isinstance(self.source, str) else self.source

    @property
    def writing(self) -> Writing:
        """How values are written."""
        return Writing(self.decimal, self.thousands, self.dates)

    @property
    def wish(self) -> Wish:
        """What is asked for of the table."""
        return Wish(
            self.mode,
            tuple(self.primary_key),
            self.columns,
            create=self.create_table,
            evolve=self.on_schema_change == "evolve",
        )
