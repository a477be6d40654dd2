"""`expect`: what users say must hold of a table that was loaded, and what comes of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dataloader.connectors.identifiers import TableName
from dataloader.connectors.loading.expectations import Expectations, disappointments, known_types
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction

Column = Annotated[str, Field(min_length=1, max_length=63)]
Limit = str | int | float | None


class Expect(BaseModel):
    """What must hold of all rows of the table at the end of a load."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_null_fraction: Annotated[
        dict[Column, Annotated[float, Field(ge=0, le=1)]],
        Field(description="Column to the greatest part of rows that may lack a value, 0 to 1."),
    ] = {}
    unique: Annotated[
        list[Column | list[Column]], Field(description="Columns, or lists of them, no two rows may share.")
    ] = []
    accepted_range: Annotated[
        dict[Column, tuple[Limit, Limit]], Field(description="Column to its least and greatest value; null for none.")
    ] = {}
    freshness: Annotated[
        dict[Column, Annotated[float, Field(gt=0)]],
        Field(description="Column of days or instants to the greatest age of its newest value, in seconds."),
    ] = {}
    on_failure: Annotated[
        Literal["fail", "warn"], Field(description="End the job without its last chunk, or tell it in the result.")
    ] = "fail"

    def expectations(self) -> Expectations:
        """Return them for the connectors."""
        groups = tuple((one,) if isinstance(one, str) else tuple(one) for one in self.unique)
        return Expectations(self.max_null_fraction, groups, self.accepted_range, self.freshness)


async def check_names(expect: Expect | None, tx: ChunkTransaction, table: TableName) -> None:
    """Refuse expectations of columns that a table lacks, before it is loaded.

    Raises:
        PermanentError: One speaks of such a column.
    """
    if expect is not None:
        await known_types(tx.connection, table, expect.expectations())


async def check(expect: Expect | None, tx: ChunkTransaction, table: TableName) -> list[str]:
    """Ask a table for what is expected of it; return what does not hold and only warns.

    Raises:
        PermanentError: Something does not hold.
    """
    if expect is None:
        return []
    wrong = await disappointments(tx.connection, table, expect.expectations())
    if wrong and expect.on_failure == "fail":
        raise PermanentError(f"{table} is not as expected: {'; '.join(wrong)}")
    return wrong
