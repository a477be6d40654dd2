"""The table a load goes into: created, widened or refused, and what of the source goes into which column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from dataloader.connectors.identifiers import TableName, quote_all, quote_ident
from dataloader.connectors.loading import TableShape, describe_table, swap
from dataloader.connectors.loading.seen import Seen, declared, widened
from dataloader.connectors.loading.shape import tells_apart
from dataloader.connectors.tables import Connection, canonical_type, check_type, ensure_table
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for of the table.

    Attributes:
        mode: `append`, `replace` or `merge`.
        primary_key: Columns that tell rows apart.
        types: Column to type, over what the source suggests.
        create: Create the table if it is missing.
        evolve: Add columns that the table lacks and widen its types, instead of refusing.
        key_orders: Whether the key orders what is read: a table to replace need not hold rows apart by it.
    """

    mode: str
    primary_key: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    create: bool = True
    evolve: bool = False
    key_orders: bool = False


@dataclass(frozen=True, slots=True)
class Incoming:
    """What comes.

    Attributes:
        source: Where from, for messages.
        fields: What the source calls its columns.
        columns: Name for a column to what its values are, in the order of the fields.
        by_place: Whether the fields have no names of their own.
    """

    source: str
    fields: tuple[str, ...]
    columns: Mapping[str, Seen]
    by_place: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a source's fields go.

    Attributes:
        into: The table that is written to.
        columns: Column of the table to its type, in the order of the source's fields.
        texts: Those that hold text.
        key: Those that tell rows apart.
    """

    into: TableName
    columns: Mapping[str, str]
    texts: frozenset[str]
    key: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names in the order of the fields."""
        return tuple(self.columns)


@dataclass(frozen=True, slots=True)
class Target:
    """The table of a job."""

    wish: Wish
    table: TableName
    job_id: UUID

    @property
    def into(self) -> TableName:
        """What is written to: the table itself, or the one that is to take its place."""
        return swap.new_table(self.table, self.job_id) if self.wish.mode == "replace" else self.table

    async def bind(self, tx: ChunkTransaction, incoming: Incoming, *, begun: bool, advice: str) -> Binding:
        """Make the table ready for a source, in the transaction of the source's first rows.

        Args:
            tx: The chunk.
            incoming: What comes.
            begun: Whether rows of this load have been written before.
            advice: What to do when they are gone.

        Raises:
            PermanentError: The table is missing or does not fit; the message says what to do.
        """
        conn = tx.connection
        self._check_overrides(incoming)
        if self.wish.mode == "replace" and not begun:
            await swap.drop(conn, self.into)
        shape = await describe_table(conn, self.into)
        if shape is None and begun:
            raise PermanentError(f"{self.into} is gone, with the rows that were loaded before; {advice}")
        shape = shape or await self._create(tx, incoming)
        unknown = {name for _, name in self._matched(incoming, shape) if name not in shape.columns}
        if unknown:
            shape = await self._add(conn, incoming, shape, unknown)
        if self.wish.evolve:
            shape = await self._widen(conn, incoming, shape)
        names = [name for _, name in self._matched(incoming, shape)]
        if len(set(names)) < len(names):
            raise PermanentError(
                f"{incoming.source}: two of its columns go into one of {self.table}: {', '.join(sorted(names))}"
            )
        key = self._key(dict(zip(incoming.fields, names, strict=True)), names)
        return Binding(self.into, {name: shape.columns[name] for name in names}, shape.texts, key)

    async def finish(self, conn: Connection, told: Callable[[str], None]) -> None:
        """Put the new table in the place of the old one, if that is what was asked for; tell what is waited for."""
        if self.wish.mode == "replace":
            await swap.swap(conn, self.into, self.table, evolve=self.wish.evolve, told=told)

    def _check_overrides(self, incoming: Incoming) -> None:
        known = {*incoming.fields, *incoming.columns}
        missing = [name for name in self.wish.types if name not in known]
        if missing:
            raise PermanentError(
                f"{incoming.source} has no column {', '.join(missing)}; it has {', '.join(incoming.columns)}"
            )

    def _key(self, columns: Mapping[str, str], names: Sequence[str]) -> tuple[str, ...]:
        """Return the columns of the key, which may be called as the table calls them or as the source does."""
        missing = [name for name in self.wish.primary_key if name not in {*names, *columns}]
        if missing:
            raise PermanentError(
                f"primary_key names {', '.join(missing)}, which is not among the columns: {', '.join(names)}"
            )
        return tuple(name if name in names else columns[name] for name in self.wish.primary_key)

    def _types(self, incoming: Incoming) -> dict[str, str]:
        """Return the columns a new table gets: what the sample suggests, under what was asked for; else text."""
        pairs = zip(self._asked(incoming), incoming.columns.items(), strict=True)
        return {name: asked or seen.suggested or "text" for asked, (name, seen) in pairs}

    def _asked(self, incoming: Incoming) -> list[str | None]:
        """Return which type was asked for of each field's column."""
        asked = self.wish.types
        return [
            asked.get(name) or asked.get(field) for field, name in zip(incoming.fields, incoming.columns, strict=True)
        ]

    def _matched(self, incoming: Incoming, shape: TableShape) -> list[tuple[str, str]]:
        """Return each field with its column: the one of the very name, or else of the cleaned one, or by place."""
        if incoming.by_place:
            columns = list(shape.columns)[: len(incoming.fields)]
            if len(columns) == len(incoming.fields):
                return list(zip(incoming.fields, columns, strict=True))
        pairs = zip(incoming.fields, incoming.columns, strict=True)
        seen = Counter(incoming.fields)
        return [(field, field if field in shape.columns and seen[field] == 1 else name) for field, name in pairs]

    async def _create(self, tx: ChunkTransaction, incoming: Incoming) -> TableShape:
        conn = tx.connection
        replaced = await describe_table(conn, self.table) if self.wish.mode == "replace" else None
        if replaced is None and not self.wish.create:
            raise PermanentError(f"the table {self.table} does not exist; create it, or set create_table=true")
        if self.wish.mode == "replace":
            await self._drop_leftovers(tx)
        if replaced is not None:
            await swap.check_replaceable(conn, self.table)
            await self._check_key_of(conn, incoming, replaced)
            await swap.create_like(conn, self.into, self.table)
        else:
            await self._create_new(conn, incoming)
        if self.wish.mode == "replace":
            await swap.mark(conn, self.into, self.table)
        shape = await describe_table(conn, self.into)
        if shape is None:
            raise PermanentError(f"the table {self.into} vanished while it was being loaded")
        return shape

    async def _check_key_of(self, conn: Connection, incoming: Incoming, replaced: TableShape) -> None:
        """Accept a table to replace that holds its rows apart by the key, as a new one would."""
        names = [name for _, name in self._matched(incoming, replaced)]
        key = self._key(dict(zip(incoming.fields, names, strict=True)), names)
        if key and not self.wish.key_orders and not await tells_apart(conn, self.table, key):
            raise PermanentError(
                f"{self.table} has no primary key ({', '.join(key)}), and mode=replace keeps its constraints; "
                f"alter table {self.table.sql} add primary key ({quote_all(key)}), or leave primary_key out"
            )

    async def _drop_leftovers(self, tx: ChunkTransaction) -> None:
        """Drop what loads that have ended were about to put in the same place."""
        for table, job_id in await swap.leftovers(tx.connection, self.table, but=self.into):
            if await tx.has_ended(job_id):
                await swap.drop(tx.connection, table)

    async def _create_new(self, conn: Connection, incoming: Incoming) -> None:
        if not await conn.fetchval("select to_regnamespace($1) is not null", quote_ident(self.table.schema)):
            raise PermanentError(f"the schema {self.table.schema} of the table {self.table} does not exist; create it")
        columns = self._types(incoming)
        key = self._key(dict(zip(incoming.fields, columns, strict=True)), tuple(columns))
        await ensure_table(conn, self.into, columns, primary_key=key)

    async def _add(self, conn: Connection, incoming: Incoming, shape: TableShape, unknown: set[str]) -> TableShape:
        computed = unknown & shape.computed
        if computed:
            raise PermanentError(
                f"{incoming.source}: {', '.join(sorted(computed))} of {self.table} is generated, not loaded"
            )
        if not self.wish.evolve:
            raise PermanentError(
                f"{incoming.source} has columns that {self.table} lacks: {', '.join(sorted(unknown))}; "
                "set on_schema_change=evolve to add them"
            )
        types = self._types(incoming)
        for name in (name for name in types if name in unknown):
            await conn.execute(f"alter table {self.into.sql} add column {quote_ident(name)} {check_type(types[name])}")
        return await self._described(conn)

    async def _widen(self, conn: Connection, incoming: Incoming, shape: TableShape) -> TableShape:
        """Change the types of columns that do not take what comes."""
        changed = False
        fields = zip(self._matched(incoming, shape), incoming.columns.values(), self._asked(incoming), strict=True)
        for (_, name), seen, asked in fields:
            kind = await canonical_type(conn, asked) if asked else None
            if (new := widened(shape.columns[name], declared(kind) if kind else seen)) is not None:
                await self._alter(conn, name, new)
                changed = True
        return await self._described(conn) if changed else shape

    async def _alter(self, conn: Connection, name: str, kind: str) -> None:
        """Change the type of a column.

        Raises:
            PermanentError: Something hangs on it that goes with the old type only.
        """
        try:
            await conn.execute(f"alter table {self.into.sql} alter column {quote_ident(name)} type {kind}")
        except (asyncpg.FeatureNotSupportedError, asyncpg.SyntaxOrAccessError) as error:
            raise PermanentError(
                f"column {name} of {self.table} would have to become {kind}: {error.args[0]}; change it by hand, or "
                "load with on_schema_change=freeze"
            ) from None

    async def _described(self, conn: Connection) -> TableShape:
        shape = await describe_table(conn, self.into)
        assert shape is not None  # noqa: S101 - altered in this transaction
        return shape
