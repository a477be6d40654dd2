"""A shop that takes an order and asks for its invoice in one transaction: both exist, or neither does."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from decimal import Decimal
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Numeric, Text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from dataloader import JobContext, PermanentError, register
from dataloader.domain.jobs import NewJob
from dataloader.storage.repositories.intake import IntakeRepository

INTAKE = IntakeRepository("public")


class Base(DeclarativeBase):
    """The shop's own tables."""


class Order(Base):
    """An order of a customer."""

    __tablename__ = "shop_orders"

    order_id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str] = mapped_column(Text)
    amount: Mapped[Decimal] = mapped_column(Numeric)


class Invoice(Base):
    """The invoice of an order."""

    __tablename__ = "shop_invoices"

    order_id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(Text)


async def place_order(session: AsyncSession, customer: str, amount: Decimal) -> UUID:
    """Store an order and queue its invoice in the session's transaction; the caller commits.

    Returns:
        The id of the invoice's job.
    """
    order = Order(customer=customer, amount=amount)
    session.add(order)
    await session.flush()
    job = NewJob(
        queue="example",
        task="example.invoice",
        args={"order_id": order.order_id},
        idempotency_key=f"invoice-{order.order_id}",
    )
    [answer] = await INTAKE.enqueue(session, [job], actor="shop", notify=True)
    return answer.job_id


class InvoiceArgs(BaseModel):
    """Whose invoice."""

    order_id: int


@register("example.invoice", queue="example")
async def write_invoice(args: InvoiceArgs, ctx: JobContext) -> AsyncGenerator[None, None]:
    """Write the invoice of an order."""
    async with ctx.transaction() as tx:
        rows = await tx.fetch("select customer, amount from shop_orders where order_id = $1", args.order_id)
        if not rows:
            raise PermanentError(f"there is no order {args.order_id}")
        text = f"{rows[0]['customer']} owes {rows[0]['amount']}"
        await tx.upsert("shop_invoices", [{"order_id": args.order_id, "text": text}], key=["order_id"])
    ctx.result = {"text": text}
    yield
