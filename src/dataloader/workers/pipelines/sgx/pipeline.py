"""The pipeline `sgx.futures` and its table."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncGenerator, Mapping, Sequence

from yarl import URL

from dataloader.connectors.urls import show_url
from dataloader.exceptions import PermanentError, SourceError
from dataloader.workers.chunks import ChunkTransaction
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.registry import register
from dataloader.workers.pipelines.sgx.args import FIRST_DAY, SgxFuturesArgs, last_day
from dataloader.workers.pipelines.sgx.keys import KeyBook
from dataloader.workers.pipelines.sgx.parser import Session
from dataloader.workers.pipelines.sgx.search import find_session
from dataloader.workers.pipelines.sgx.source import SgxSource

COLUMNS: Mapping[str, str] = {
    "trade_date": "date",
    "series": "text",
    "com": "text",
    "contract_month": "smallint",
    "contract_year": "smallint",
    "open": "numeric",
    "high": "numeric",
    "low": "numeric",
    "close": "numeric",
    "settle": "numeric",
    "volume": "bigint",
    "open_interest": "bigint",
}
KEY = ("trade_date", "series")


@register("sgx.futures", queue="load.sgx")
async def load_futures(args: SgxFuturesArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load the Singapore Exchange's daily futures settlement for a day or a range of days into a table."""
    source = SgxSource(ctx.http, ctx.settings.dl_sgx_base_url, ctx.settings.dl_sgx_feed_url)
    last, total = str((ctx.checkpoint or {}).get("day", "")), len(args.weekdays)
    left = [day for day in args.weekdays if day.isoformat() > last]
    book = await _known(ctx, source, left)
    for done, day in enumerate(left, start=total - len(left) + 1):
        session = await find_session(book, source, day)
        _warn_of_holes(ctx, book, day, session)
        async with ctx.transaction() as tx:
            await _store(tx, args.table, session)
            tx.record(source=show_url(URL(ctx.settings.dl_sgx_base_url)))
            await _save_keys(tx, book)
            tx.checkpoint(
                {"day": day.isoformat()}, done=done, total=total, unit="days", message=_told(book, day, session)
            )
        yield


async def _known(ctx: JobContext, source: SgxSource, days: Sequence[dt.date]) -> KeyBook:
    """Return what earlier jobs found out about the keys and, where that is not enough, what the exchange lists."""
    book = KeyBook()
    if days:
        for year in range(FIRST_DAY.year, last_day().year + 1):
            book.remember(year, await ctx.state.get(_state_key(year)))
    if any(book.get(day) is None for day in days):
        await _add_listed(ctx, source, book)
    return book


async def _add_listed(ctx: JobContext, source: SgxSource, book: KeyBook) -> None:
    """Enter what the exchange lists; without the list a day is found by search."""
    try:
        book.list_newest(await source.newest())
    except (SourceError, PermanentError) as error:
        ctx.logger.warning("the exchange's list of days is not available", reason=error.message)


async def _store(tx: ChunkTransaction, table: str, session: Session | None) -> None:
    await tx.ensure_table(table, COLUMNS, primary_key=KEY)
    if session is not None:
        await tx.upsert(table, session.quotes, key=KEY)


async def _save_keys(tx: ChunkTransaction, book: KeyBook) -> None:
    """Commit what this run confirmed with the chunk, year by year in order so that two jobs never cross."""
    for year, holds, pairs in book.take_news():
        stored = await tx.get_state(_state_key(year)) if holds else None
        await tx.set_state(_state_key(year), (stored if isinstance(stored, dict) else {}) | pairs)


def _warn_of_holes(ctx: JobContext, book: KeyBook, day: dt.date, session: Session | None) -> None:
    holes = book.holes(day) if session is None else []
    if holes:
        ctx.logger.warning("the exchange has no file where a session may have been", day=day.isoformat(), keys=holes)


def _state_key(year: int) -> str:
    return f"keys.{year}"


def _told(book: KeyBook, day: dt.date, session: Session | None) -> str:
    if session:
        return f"{len(session.quotes)} series on {day}"
    _, after = book.bounds(day)
    return f"no trading on {day}" if after else f"no file of {day} yet"
