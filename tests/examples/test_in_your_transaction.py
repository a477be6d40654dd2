"""examples/in_your_transaction: an order and its job are committed together, or not at all."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from types import ModuleType

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from dataloader.config import Settings
from dataloader.storage.db import open_engine
from dataloader.workers.pipelines.registry import Registry
from tests.workers.harness import finished, running_service

MODULE = "examples.in_your_transaction.shop"


@pytest.fixture
def registry(load: Callable[[str], Registry]) -> Registry:
    """The registry with the shop's pipeline."""
    return load(MODULE)


@pytest.fixture
def shop(registry: Registry) -> ModuleType:
    """The shop's own code."""
    assert "example.invoice" in registry
    return sys.modules[MODULE]


@pytest.fixture
async def sessions(settings: Settings, shop: ModuleType) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Sessions on the shop's tables."""
    engine = open_engine(settings)
    async with engine.begin() as connection:
        await connection.run_sync(shop.Base.metadata.create_all)
    yield async_sessionmaker(engine)
    await engine.dispose()


async def test_a_committed_order_gets_its_invoice(
    settings: Settings,
    pg: asyncpg.Connection[asyncpg.Record],
    registry: Registry,
    shop: ModuleType,
    sessions: async_sessionmaker[AsyncSession],
) -> None:
    async with running_service(settings, registry):
        async with sessions.begin() as session:
            job_id = await shop.place_order(session, "Ada", Decimal("9.90"))
            assert await pg.fetchval("select count(*) from dl_jobs") == 0
        [row] = await finished(pg, [job_id])

    assert (row["status"], json.loads(row["result"])) == ("succeeded", {"text": "Ada owes 9.90"})
    assert await pg.fetchval("select text from shop_invoices") == "Ada owes 9.90"


async def test_a_rolled_back_order_leaves_no_job(
    pg: asyncpg.Connection[asyncpg.Record], shop: ModuleType, sessions: async_sessionmaker[AsyncSession]
) -> None:
    async with sessions() as session:
        await shop.place_order(session, "Bob", Decimal(1))
        await session.rollback()

    assert await pg.fetchval("select count(*) from shop_orders") == 0
    assert await pg.fetchval("select count(*) from dl_jobs") == 0
    assert await pg.fetchval("select count(*) from dl_idempotency") == 0
