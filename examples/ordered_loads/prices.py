"""Price lists that must be stored in the order in which they were sent, and never two at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel, Field

from dataloader import JobContext, PermanentError, register
from dataloader.domain.jobs import NewJob
from dataloader.storage.repositories.intake import IntakeRepository, Target

COLUMNS = {"shop": "text", "article": "text", "version": "integer", "price": "numeric"}


class PriceList(BaseModel):
    """All prices of a shop."""

    shop: str
    version: int
    prices: dict[str, Decimal] = Field(description="Article to price.")


@register("example.price_list", queue="example", on_partition_failure="block")
async def store_prices(args: PriceList, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Store a shop's price list; a bad one holds up that shop's newer lists until somebody has looked."""
    if bad := [article for article, price in args.prices.items() if price <= 0]:
        raise PermanentError(f"list {args.version} of {args.shop} has no price for {', '.join(bad)}")
    rows = [
        {"shop": args.shop, "article": article, "version": args.version, "price": price}
        for article, price in args.prices.items()
    ]
    async with ctx.transaction() as tx:
        await tx.ensure_table("prices", COLUMNS, primary_key=["shop", "article"])
        await tx.upsert("prices", rows, key=["shop", "article"])
        tx.checkpoint({"version": args.version}, done=len(rows), total=len(rows), unit="articles")
    yield


async def send(target: Target, lists: Sequence[PriceList]) -> list[UUID]:
    """Queue price lists in the target's transaction.

    The partition keeps the lists of a shop in order. The lock key keeps loads of the table apart, whatever shop they
    are for.
    """
    jobs = [
        NewJob(
            queue="example",
            task="example.price_list",
            args=one.model_dump(mode="json"),
            idempotency_key=f"prices-{one.shop}-{one.version}",
            partition_key=f"shop:{one.shop}",
            lock_key="table:prices",
        )
        for one in lists
    ]
    answers = await IntakeRepository("public").enqueue(target, jobs, actor="head office", notify=True)
    return [answer.job_id for answer in answers]
