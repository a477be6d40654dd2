"""The pipeline `unload.table`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, closing
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from dataloader.connectors.sql import SqlSource
from dataloader.connectors.unloading import AnyShelf, Csv, Cut, Form, Place, copy_part, open_shelf, row_bytes
from dataloader.connectors.unloading.copying import one_moment
from dataloader.connectors.unloading.publishing import MANIFEST, part_names
from dataloader.exceptions import PermanentError, RetryLater, SourceError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.refusals import refusals
from dataloader.workers.pipelines.registry import register
from dataloader.workers.pipelines.unload_table.args import UnloadTableArgs
from dataloader.workers.pipelines.unload_table.manifest import manifest_of
from dataloader.workers.pipelines.unload_table.source import open_unloaded
from dataloader.workers.pipelines.unload_table.state import UnloadState

MAX_PARTS = 3_000
"""A checkpoint lists them all, and those of the unload before, within its mebibyte."""

_TAKEN_RETRY_S = 30.0


@register("unload.table", queue="unload.table")
async def unload_table(args: UnloadTableArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Write a table or query into files in a directory or bucket, in parts, with a manifest once all are there."""
    with refusals():
        form = await asyncio.to_thread(args.form)
        shelf = await asyncio.to_thread(open_shelf, args.target, ctx.settings, ctx.job_id)
        async with open_unloaded(args, ctx.settings) as source:
            unload = Unload(args, ctx, source, form=form, shelf=shelf)
            await unload.begin()
            async with aclosing(unload.compare()) as blocks:
                async for _ in blocks:
                    yield
            while not unload.state.complete:
                await unload.step()
                yield
        await unload.publish()
        await unload.clean()
        state = unload.state
        ctx.result = {
            "rows": state.rows,
            "bytes": state.bytes,
            "parts": len(state.parts),
            "manifest": f"{shelf.name}/{MANIFEST}",
        }


class Unload:
    """One run of an unload.

    Args:
        args: What to write.
        ctx: The job.
        source: What is read.
        form: How files are written.
        shelf: Where to.
    """

    def __init__(
        self, args: UnloadTableArgs, ctx: JobContext, source: SqlSource, *, form: Form, shelf: AnyShelf
    ) -> None:
        self._args = args
        self._ctx = ctx
        self._source = source
        self._form = form
        self._shelf = shelf
        self._run = secrets.token_hex(4)
        self.state = UnloadState(tuple(source.columns.items()))

    async def begin(self) -> None:
        """Find out where to go on, and take the target for this job.

        Raises:
            PermanentError: The target is in use, the parts of an earlier attempt are gone, or the key is of no use.
            RetryLater: Another job that has not ended writes to the target.
        """
        if self._ctx.checkpoint is not None:
            await self._resume(UnloadState.of(self._ctx.checkpoint))
            return
        await self._check_null()
        key = await self._key()
        async with self._ctx.transaction() as tx:
            await self._claim(tx)
            mark = await asyncio.to_thread(self._make_room)
            self.state = replace(self.state, key=key, mark=mark, about_rows=await self._source.about_rows())
            tx.checkpoint(self.state.as_json(), done=0, total=self.state.total, unit="rows")

    async def _resume(self, state: UnloadState) -> None:
        if not state.complete and state.columns != self.state.columns:
            raise PermanentError(
                f"the columns of {self._source.name} have changed since this unload began; trigger a new job"
            )
        self.state = state
        async with self._ctx.transaction() as tx:
            await self._claim(tx)
        if not state.finished_at:
            await asyncio.to_thread(self._shelf.create)

    async def compare(self) -> AsyncGenerator[None, None]:
        """Read what an earlier attempt wrote, and accept it only if it is still the same.

        Raises:
            PermanentError: A part is gone, or has changed.
        """
        parts = () if self.state.finished_at else self.state.parts
        with closing(self._shelf.compared(parts)) as names:
            while (name := await asyncio.to_thread(next, names, None)) is not None:
                self._ctx.progress(message=f"checking {name} of an earlier attempt")
                yield

    async def _claim(self, tx: ChunkTransaction) -> None:
        """Let one job at a time write to a target; a claim lapses when its job ends."""
        name = self._shelf.name
        await tx.execute("select pg_advisory_xact_lock(hashtextextended($1, 0))", f"dataloader.unload:{name}")
        holder = await tx.get_state(name)
        own = str(self._ctx.job_id)
        if holder not in {None, own} and not await tx.has_ended(UUID(str(holder))):
            raise RetryLater(_TAKEN_RETRY_S, f"job {holder} is writing to {name}")
        if holder != own:
            await tx.set_state(name, own)

    def _make_room(self) -> str:
        """Create the job's folder; return what stands in the names of its parts."""
        self._shelf.present()
        if not self._args.overwrite:
            self._shelf.check_free()
        self._shelf.create()
        return self._shelf.mark()

    async def _check_null(self) -> None:
        """Refuse what would be written as blank lines: most readers take them for nothing."""
        names = tuple(self._source.columns)
        if (
            isinstance(self._form, Csv)
            and len(names) == 1
            and not self._form.null
            and await self._source.has_nulls(names)
        ):
            raise PermanentError(
                f"{self._source.name} has one column, and rows without a value in it: each would be a blank line, "
                "which is no row to most readers; say what to write instead, for example null=NULL"
            )

    async def _key(self) -> tuple[str, ...]:
        missing = [name for name in self._args.key if name not in self._source.columns]
        if missing:
            raise PermanentError(
                f"{self._source.name} has no column {', '.join(missing)}; it has {', '.join(self._source.columns)}"
            )
        key = tuple(self._args.key)
        if key and await self._source.has_nulls(key):
            raise PermanentError(f"{self._source.name} has rows without {', '.join(key)}; no part would hold them")
        return key or await self._source.primary_key()

    async def step(self) -> None:
        """Write the next part, and then its checkpoint; behind the last one, say that all are written."""
        if len(self.state.parts) >= MAX_PARTS:
            raise PermanentError(f"an unload has at most {MAX_PARTS} parts; give a larger part_bytes or part_rows")
        cut, last = await self._next()
        state = replace(self.state, complete=True) if cut is None else self.state.with_part(cut, last)
        async with self._ctx.transaction() as tx:
            if cut is not None:
                tx.rows += cut.part.rows
                scope = {"part": cut.part.name, "after": list(self.state.after), "upto": list(last)}
                tx.record(source=self._source.dataset, target=self._shelf.name, range=scope, size_bytes=cut.part.bytes)
            told = f"{len(state.parts)} parts"
            tx.checkpoint(state.as_json(), done=state.rows, total=state.total, unit="rows", message=told)
        self.state = state

    async def _next(self) -> tuple[Cut | None, tuple[str, ...]]:
        """Write the next part as the source is now; return it with the key of its last row, None when none is left."""
        async with one_moment(self._source):
            last = await self._last()
            if last is None and self.state.parts:
                return None, ()
            bounds = replace(self.state.bounds, upto=last or None)
            return await copy_part(self._source, bounds, self._place(), self._form, told=self._tell), last or ()

    async def _last(self) -> tuple[str, ...] | None:
        """Return the key of the next part's last row, None when no row is left; empty without a key."""
        if not self.state.key:
            return ()
        size = self.state.row_bytes
        if self._args.counts_bytes and not size:
            size = await row_bytes(self._source, self.state.key)
        return await self._source.last_of(self.state.bounds, self._args.rows_of(size))

    def _place(self) -> Place:
        return self._shelf.place(self.state.name(self._form.suffix), self._run)

    def _tell(self, text_bytes: int) -> None:
        """Report a part's growth.

        Raises:
            SourceError: The run was told to stop; it ends as it was told.
        """
        if self._ctx.cancel_requested:
            raise SourceError("the run was told to stop in the middle of a part")
        number = len(self.state.parts) + 1
        self._ctx.progress(message=f"part {number}: {text_bytes / 1e6:.0f} MB")

    async def publish(self) -> None:
        """Put all parts in place, the manifest last.

        Raises:
            PermanentError: Another unload is in the way.
        """
        if not self.state.finished_at:
            await self._decide()
        manifest = manifest_of(self._form, self.state, source=self._source.name, job_id=self._ctx.job_id)
        await asyncio.to_thread(self._shelf.publish, self.state.parts, manifest)

    async def _decide(self) -> None:
        """Commit that this unload takes the place of the one before; from here on it can only go forward."""
        async with self._ctx.transaction() as tx:
            await self._claim(tx)
            replaced = await asyncio.to_thread(self._replaced)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.state = replace(self.state, finished_at=now, replaced=tuple(replaced))
            told, rows = "all parts are written", self.state.rows
            tx.checkpoint(self.state.as_json(), done=rows, total=rows, unit="rows", message=told)

    def _replaced(self) -> list[str]:
        if not self._args.overwrite:
            self._shelf.check_free()
        self._shelf.check_kept(self.state.parts)
        return part_names(self._shelf.present() or {})

    async def clean(self) -> None:
        """Remove the parts of the unload before, this job's folder, and those of jobs that have ended."""
        async with self._ctx.transaction() as tx:
            ended = [one for one in await asyncio.to_thread(self._shelf.others) if await tx.has_ended(one)]
        await asyncio.to_thread(self._shelf.remove, self.state.replaced)
        for job_id in (*ended, self._ctx.job_id):
            await asyncio.to_thread(replace(self._shelf, job_id=job_id).clear)
