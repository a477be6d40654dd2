"""The pipeline `load.sql`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from dataloader.connectors.identifiers import parse_target
from dataloader.connectors.loading.moves import STAGE, straight
from dataloader.connectors.loading.seen import declared, plain
from dataloader.connectors.loading.staging import create_stage, move_stage
from dataloader.connectors.sql import SqlSource, copy_across, named_dsn, open_source
from dataloader.connectors.sql.pipe import Form
from dataloader.connectors.sql.settling import settled_mark
from dataloader.connectors.sql.source import Bounds
from dataloader.exceptions import PermanentError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.expect import check, check_names
from dataloader.workers.pipelines.load_sql.args import LoadSqlArgs
from dataloader.workers.pipelines.pace import Pace, Span
from dataloader.workers.pipelines.refusals import refusals
from dataloader.workers.pipelines.registry import register
from dataloader.workers.pipelines.target import Binding, Incoming, Target

_ROWS = Span(first=20_000, least=1_000, most=5_000_000)
_PORTABLE = frozenset(
    {
        *("bigint", "integer", "smallint", "numeric", "real", "double precision", "boolean", "uuid", "bytea"),
        *("text", "character varying", "json", "jsonb", "date", "interval"),
        *("timestamp with time zone", "timestamp without time zone", "time without time zone"),
    }
)
"""Types whose binary form is the same on every server."""


@register("load.sql", queue="load.sql")
async def load_sql(args: LoadSqlArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load a query or table of another PostgreSQL into a table, whole or only what is new, each row exactly once."""
    opened = open_source(
        named_dsn(ctx.settings, args.connection),
        connection_name=args.connection,
        query=args.query,
        table=args.source_table,
    )
    with refusals():
        async with opened as source:
            load = Load(args, ctx, source)
            await load.begin()
            while not load.state.finished:
                await load.step()
                yield
            mark = load.state.after[0] if args.incremental_key and load.state.after else None
            ctx.result = {"rows": load.state.rows, "mark": mark} | (
                {"warnings": load.warnings} if load.warnings else {}
            )


@dataclass(frozen=True, slots=True)
class SqlState:
    """How far a load has come; what its checkpoints say.

    Attributes:
        key: Columns that the rows are taken in the order of; none: all at once.
        after: Texts of the key of the last row loaded; empty before the first.
        upto: Texts of the key of the last row to load; empty: as many as there are.
        begun_after: The mark of the task when the load began, None if there was none.
        including: Whether rows of the key `after` are to be loaded again: those that came later would be missed.
        rows: Rows loaded.
        finished: Whether nothing is left to do.
    """

    key: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    upto: tuple[str, ...] = ()
    begun_after: str | None = None
    including: bool = False
    rows: int = 0
    finished: bool = False

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any]) -> SqlState:
        """Return what a checkpoint says."""
        return cls(**{**checkpoint, **{name: tuple(checkpoint[name]) for name in ("key", "after", "upto")}})

    @property
    def bounds(self) -> Bounds:
        """The rows that are left."""
        return Bounds(self.key, self.after or None, self.upto or None, including=self.including)


class Load:
    """One run of a load.

    Args:
        args: What to load.
        ctx: The job.
        source: What is read.

    Attributes:
        warnings: What is not as expected, and only warns.
    """

    def __init__(self, args: LoadSqlArgs, ctx: JobContext, source: SqlSource) -> None:
        self._args = args
        self._ctx = ctx
        self._source = source
        self._target = Target(args.wish, parse_target(args.table, schema=ctx.settings.pg_schema), ctx.job_id)
        columns = {name: declared(kind) for name, kind in source.columns.items()}
        self._incoming = Incoming(source.name, tuple(source.columns), columns)
        self._binding: Binding | None = None
        self._pace = Pace(_ROWS, fixed=args.chunk_rows)
        self.state = SqlState()
        self.warnings: list[str] = []

    @property
    def _mark_name(self) -> str:
        return self._args.mark_name(self._source.relation, self._target.table)

    async def begin(self) -> None:
        """Find out where to go on, and where to stop.

        Raises:
            PermanentError: The key cannot tell where a row is.
            RetryLater: A transaction of the source may still add older rows.
        """
        if self._ctx.checkpoint is not None:
            self.state = SqlState.of(self._ctx.checkpoint)
            self._check_has(self.state.key, "; its columns have changed since this load began, trigger a new job")
            return
        key = await self._key()
        if key and await self._source.has_nulls(key):
            raise PermanentError(f"{self._source.name} has rows without {', '.join(key)}; they would never be loaded")
        self.state = SqlState(key)
        if self._args.incremental_key is not None:
            await self._begin_at_mark(self._args.incremental_key)

    async def _key(self) -> tuple[str, ...]:
        args = self._args
        asked = (args.incremental_key,) if args.incremental_key else tuple(args.primary_key)
        self._check_has(asked)
        return asked or await self._source.primary_key()

    def _check_has(self, key: tuple[str, ...], advice: str = "") -> None:
        """Refuse a key that is not among the source's columns."""
        missing = [name for name in key if name not in self._source.columns]
        if missing:
            known = ", ".join(self._source.columns)
            raise PermanentError(f"{self._source.name} has no column {', '.join(missing)}; it has {known}{advice}")

    async def _begin_at_mark(self, key: str) -> None:
        """Go on from the mark of the task.

        Raises:
            PermanentError: The source ends before it: none of its rows would be loaded, whatever they are.
        """
        stored = None if self._args.full_refresh else await self._ctx.state.get(self._mark_name)
        mark = await settled_mark(self._source, key, patience_s=self._args.wait_s)
        if stored is not None and mark is not None and not await self._source.reaches(key, str(stored)):
            raise PermanentError(
                f"the greatest {key} of {self._source.name} is {mark}, and it has been loaded up to {stored}: it has "
                "started over, or its last rows are gone; full_refresh=true loads it from the beginning (mode=append "
                "adds its rows to those that are there)"
            )
        after = (str(stored),) if stored is not None else ()
        self.state = replace(
            self.state,
            after=after,
            upto=after if mark is None else (mark,),
            begun_after=None if stored is None else str(stored),
            including=stored is not None and self._args.mode == "merge",
        )

    async def step(self) -> None:
        """Load the next chunk in one transaction; the last one, without rows, accepts the load as a whole."""
        began_s = time.monotonic()
        last = await self._next()
        async with self._ctx.transaction() as tx:
            if last is None:
                if not self.state.rows:
                    tx.record(source=self._source.dataset, target=self._args.table)
                state = await self._finish(tx)
            else:
                state = await self._chunk(tx, last)
            tx.checkpoint(asdict(state), done=state.rows, unit="rows", message=_told(state))
        self._pace.took(state.rows - self.state.rows, time.monotonic() - began_s)
        self.state = state

    async def _next(self) -> tuple[str, ...] | None:
        """Return the key of the next chunk's last row, None when nothing is left; empty for all rows at once."""
        if not self.state.key:
            return () if not self.state.rows else None
        return await self._source.last_of(self.state.bounds, self._pace.size)

    async def _chunk(self, tx: ChunkTransaction, last: tuple[str, ...]) -> SqlState:
        if self._args.incremental_key:
            await self._move_mark(tx, last[0])
        rows = await self._copy(tx, await self._bound(tx), replace(self.state.bounds, upto=last or None))
        tx.rows += rows
        scope = {"after": list(self.state.after), "upto": list(last)}
        tx.record(source=self._source.dataset, target=self._args.table, range=scope)
        if not self.state.key:
            return replace(await self._finish(tx, rows), after=last)
        return replace(self.state, after=last, including=False, rows=self.state.rows + rows)

    async def _move_mark(self, tx: ChunkTransaction, mark: str) -> None:
        """Move the task's mark from where this load left it, and only from there.

        Raises:
            PermanentError: Another load has moved it meanwhile: its rows would be loaded twice.
        """
        name = self._mark_name
        await tx.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataloader.load_sql:{name}")
        expected = self.state.after[0] if self.state.after else None
        if await tx.get_state(name) != expected and not (self._args.full_refresh and not self.state.after):
            raise PermanentError("another load has moved the mark of this one meanwhile; give both the same lock_key")
        await tx.set_state(name, mark)

    async def _bound(self, tx: ChunkTransaction) -> Binding:
        if self._binding is None:
            self._binding = await self._target.bind(
                tx,
                self._incoming,
                begun=self.state.rows > 0 or self.state.begun_after is not None,
                advice="full_refresh=true loads everything anew",
            )
            await check_names(self._args.expect, tx, self._target.into)
        return self._binding

    async def _copy(self, tx: ChunkTransaction, binding: Binding, bounds: Bounds) -> int:
        sql = self._source.copy_sql(tuple(self._source.columns), bounds)
        into = STAGE if self._args.mode == "merge" else binding.into
        if self._args.mode == "merge":
            await create_stage(tx.connection, binding.columns, key=binding.key)
        form: Form = "binary" if _agree(self._source, binding) else "text"
        rows = await copy_across(self._source, sql, tx.connection, into, binding.names, form=form)
        if self._args.mode == "merge":
            move = straight(binding.into, binding.names, key=binding.key)
            await move_stage(tx.connection, move, source=self._source.name)
        return rows

    async def _finish(self, tx: ChunkTransaction, rows: int = 0) -> SqlState:
        """Accept the load as a whole.

        Raises:
            PermanentError: Fewer rows came than are expected.
        """
        state = replace(self.state, rows=self.state.rows + rows, finished=True)
        if state.rows < self._args.least_rows:
            raise PermanentError(f"{state.rows} rows came, at least {self._args.least_rows} are expected (min_rows)")
        if self._args.mode == "replace" or self._args.expect:
            await self._bound(tx)
        self.warnings = await check(self._args.expect, tx, self._target.into)
        await self._target.finish(tx.connection, lambda text: self._ctx.progress(message=text))
        return state


def _agree(source: SqlSource, binding: Binding) -> bool:
    """Return whether the binary form of all columns means the same on both sides."""
    pairs = zip(source.columns.values(), binding.columns.values(), strict=True)
    return all(plain(one) == plain(other) and plain(one) in _PORTABLE for one, other in pairs)


def _told(state: SqlState) -> str:
    return f"up to {', '.join(state.after)}" if state.after else ""
