"""The table a load goes into: created, widened or refused, and what of the file goes into which column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from dataloader.connectors.delimited.types import wider
from dataloader.connectors.identifiers import TableName, quote_ident
from dataloader.connectors.loading import TableShape, describe_table, swap
from dataloader.connectors.tables import Connection, check_type, ensure_table
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.formats import Layout

_WIDENED = frozenset({"boolean", "bigint", "integer", "smallint", "numeric", "double precision", "date", "uuid"}) | {
    "timestamp with time zone",
    "timestamp without time zone",
}


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a file's fields go.

    Attributes:
        into: The table that is written to.
        columns: Column of the table to its type, in the order of the file's fields.
        texts: Those that hold text.
    """

    into: TableName
    columns: Mapping[str, str]
    texts: frozenset[str]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the order of the fields."""
        return tuple(self.columns)


@dataclass(frozen=True, slots=True)
class Target:
    """The table of a job."""

    args: LoadFileArgs
    table: TableName
    job_id: UUID

    @property
    def into(self) -> TableName:
        """What is written to: the table itself, or the one that is to take its place."""
        return swap.new_table(self.table, self.job_id) if self.args.mode == "replace" else self.table

    async def bind(self, tx: ChunkTransaction, layout: Layout, *, file: str, begun: bool) -> Binding:
        """Make the table ready for a file, in the transaction of the file's first rows.

        Args:
            tx: The chunk.
            layout: What the file holds.
            file: Its name, for messages.
            begun: Whether rows of this load have been written before.

        Raises:
            PermanentError: The table is missing or does not fit; the message says what to do.
        """
        conn = tx.connection
        self._check_overrides(layout, file)
        shape = await describe_table(conn, self.into)
        if shape is None and begun:
            raise PermanentError(f"{self.into}, with the rows of this load, has been dropped; trigger a new job")
        shape = shape or await self._create(tx, layout)
        unknown = {name for _, name in self._matched(layout, shape) if name not in shape.columns}
        if unknown:
            shape = await self._add(conn, layout, shape, unknown, file)
        if self.args.on_schema_change == "evolve":
            shape = await self._widen(conn, layout, shape)
        names = [name for _, name in self._matched(layout, shape)]
        if len(set(names)) < len(names):
            raise PermanentError(f"{file}: two of its columns go into one of {self.table}: {', '.join(sorted(names))}")
        return Binding(self.into, {name: shape.columns[name] for name in names}, shape.texts)

    async def finish(self, conn: Connection) -> None:
        """Put the new table in the place of the old one, if that is what was asked for."""
        if self.args.mode == "replace":
            await swap.swap(conn, self.into, self.table)

    def _check_overrides(self, layout: Layout, file: str) -> None:
        known = {*layout.fields, *layout.columns}
        missing = [name for name in self.args.columns if name not in known]
        if missing:
            raise PermanentError(f"{file} has no column {', '.join(missing)}; it has {', '.join(layout.columns)}")

    def _types(self, layout: Layout) -> dict[str, str]:
        """Return the columns a new table gets: what the sample suggests, under what was asked for."""
        pairs = zip(layout.fields, layout.columns.items(), strict=True)
        asked = self.args.columns
        return {name: asked.get(name) or asked.get(field) or kind for field, (name, kind) in pairs}

    def _matched(self, layout: Layout, shape: TableShape) -> list[tuple[str, str]]:
        """Return each field with its column: the one of the very name, or else of the cleaned one, or by place."""
        if layout.kind == "csv" and not self.args.header and not self.args.columns:
            columns = list(shape.columns)[: len(layout.fields)]
            if len(columns) == len(layout.fields):
                return list(zip(layout.fields, columns, strict=True))
        pairs = zip(layout.fields, layout.columns, strict=True)
        return [(field, field if field in shape.columns else name) for field, name in pairs]

    async def _create(self, tx: ChunkTransaction, layout: Layout) -> TableShape:
        conn = tx.connection
        replaced = await describe_table(conn, self.table) if self.args.mode == "replace" else None
        if replaced is None and not self.args.create_table:
            raise PermanentError(f"the table {self.table} does not exist; create it, or set create_table=true")
        if self.args.mode == "replace":
            await self._drop_leftovers(tx)
        if replaced is not None:
            await swap.check_replaceable(conn, self.table)
            await swap.create_like(conn, self.into, self.table)
        else:
            await self._create_new(conn, layout)
        if self.args.mode == "replace":
            await swap.mark(conn, self.into, self.table)
        shape = await describe_table(conn, self.into)
        if shape is None:
            raise PermanentError(f"the table {self.into} vanished while it was being loaded")
        return shape

    async def _drop_leftovers(self, tx: ChunkTransaction) -> None:
        """Drop what loads that have ended were about to put in the same place."""
        for table, job_id in await swap.leftovers(tx.connection, self.table, but=self.into):
            if await tx.has_ended(job_id):
                await swap.drop(tx.connection, table)

    async def _create_new(self, conn: Connection, layout: Layout) -> None:
        columns = self._types(layout)
        lacking = [name for name in self.args.primary_key if name not in columns]
        if lacking:
            raise PermanentError(
                f"primary_key names {', '.join(lacking)}, which is not among the columns: {', '.join(columns)}"
            )
        await ensure_table(conn, self.into, columns, primary_key=self.args.primary_key)

    async def _add(
        self, conn: Connection, layout: Layout, shape: TableShape, unknown: set[str], file: str
    ) -> TableShape:
        computed = unknown & shape.computed
        if computed:
            raise PermanentError(f"{file}: {', '.join(sorted(computed))} of {self.table} is generated, not loaded")
        if self.args.on_schema_change == "freeze":
            raise PermanentError(
                f"{file} has columns that {self.table} lacks: {', '.join(sorted(unknown))}; "
                "set on_schema_change=evolve to add them"
            )
        types = self._types(layout)
        for name in (name for name in types if name in unknown):
            await conn.execute(f"alter table {self.into.sql} add column {quote_ident(name)} {check_type(types[name])}")
        return await self._described(conn)

    async def _widen(self, conn: Connection, layout: Layout, shape: TableShape) -> TableShape:
        """Change the types of columns that do not take what the file seems to hold."""
        types, changed = self._types(layout), False
        for (_, name), kind in zip(self._matched(layout, shape), types.values(), strict=True):
            old = shape.columns[name]
            new = wider("bigint" if old in {"integer", "smallint"} else old, kind)
            if old in _WIDENED and new != old and not (old in {"integer", "smallint"} and kind == "bigint"):
                await conn.execute(
                    f"alter table {self.into.sql} alter column {quote_ident(name)} type {check_type(new)}"
                )
                changed = True
        return await self._described(conn) if changed else shape

    async def _described(self, conn: Connection) -> TableShape:
        shape = await describe_table(conn, self.into)
        assert shape is not None  # noqa: S101 - altered in this transaction
        return shape
