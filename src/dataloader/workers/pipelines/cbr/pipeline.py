"""The pipeline `cbr.daily_rates` and its table."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from yarl import URL

from dataloader.connectors.urls import show_url
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.cbr.args import CbrRatesArgs
from dataloader.workers.pipelines.cbr.chunks import Chunk, by_currency, by_day
from dataloader.workers.pipelines.cbr.source import CbrSource
from dataloader.workers.pipelines.registry import register

COLUMNS: Mapping[str, str] = {
    "rate_date": "date",
    "char_code": "text",
    "num_code": "text",
    "cbr_id": "text",
    "nominal": "integer",
    "name": "text",
    "value": "numeric",
    "unit_rate": "numeric",
}
KEY = ("rate_date", "char_code")


@register("cbr.daily_rates", queue="load.cbr")
async def load_daily_rates(args: CbrRatesArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load the Bank of Russia's official exchange rates for a day or a range of days into a table."""
    source = CbrSource(ctx.http, ctx.settings.dl_cbr_base_url)
    cut = by_day if args.by == "day" else by_currency
    async with aclosing(cut(args, source, ctx.checkpoint or {})) as chunks:
        async for chunk in chunks:
            await _store(ctx, args.table, chunk)
            yield


async def _store(ctx: JobContext, table: str, chunk: Chunk) -> None:
    async with ctx.transaction() as tx:
        await tx.ensure_table(table, COLUMNS, primary_key=KEY)
        await tx.upsert(table, chunk.rates, key=KEY)
        tx.record(source=show_url(URL(ctx.settings.dl_cbr_base_url)))
        tx.checkpoint(chunk.checkpoint, done=chunk.done, total=chunk.total, unit=chunk.unit)
