"""Orders from an HTTP API that answers in pages: a chunk and a checkpoint per page, and only what is new."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import datetime
from decimal import Decimal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dataloader import JobContext, register
from dataloader.exceptions import SourceError

COLUMNS = {"order_id": "bigint", "customer": "text", "amount": "numeric", "placed_at": "timestamptz"}
NEWEST = "newest_order_id"


class OrdersArgs(BaseModel):
    """Where the orders come from and where they go."""

    model_config = ConfigDict(extra="forbid")

    base_url: str = Field(description="Address of the API, without a slash at the end.")
    table: str = Field(default="orders", description="Target; created if missing.")


class Order(BaseModel):
    """An order as the API sends it, and as a row of the table."""

    order_id: int
    customer: str
    amount: Decimal
    placed_at: datetime


class Page(BaseModel):
    """One answer: orders behind the one that was asked for, oldest first; none at the end."""

    orders: list[Order]


@register("example.orders", queue="example")
async def load_orders(args: OrdersArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Load the orders that are newer than the newest one loaded before."""
    after, loaded = await _where_to_go_on(ctx)
    while orders := await _page(args, ctx, after=after):
        after, loaded = orders[-1].order_id, loaded + len(orders)
        async with ctx.transaction() as tx:
            await tx.ensure_table(args.table, COLUMNS, primary_key=["order_id"])
            await tx.upsert(args.table, orders, key=["order_id"])
            await tx.set_state(NEWEST, after)
            tx.checkpoint({"after": after, "loaded": loaded}, done=loaded, unit="orders")
        yield
    ctx.result = {"orders": loaded, NEWEST: after}


async def _where_to_go_on(ctx: JobContext) -> tuple[int, int]:
    """Return the last order and the count of this job, or else the last order of the jobs before it."""
    if ctx.checkpoint:
        return int(str(ctx.checkpoint["after"])), int(str(ctx.checkpoint["loaded"]))
    return int(str(await ctx.state.get(NEWEST) or 0)), 0


async def _page(args: OrdersArgs, ctx: JobContext, *, after: int) -> list[Order]:
    body = await ctx.http.fetch(f"{args.base_url}/orders", params={"after": str(after)})
    try:
        return Page.model_validate_json(body).orders
    except ValidationError as error:
        raise SourceError(f"the page after order {after} is not a page: {error.error_count()} errors") from error
