"""examples/ordered_loads: order within a shop, one load of the table at a time, and a bad list stops its shop."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import ModuleType
from uuid import UUID

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import Keys
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.workers.pipelines.registry import Registry
from tests.workers.harness import Service, eventually, finished, running_service

MODULE = "examples.ordered_loads.prices"
SHOPS, VERSIONS = ("north", "south", "east"), 4


@pytest.fixture
def registry(load: Callable[[str], Registry]) -> Registry:
    """The registry with the example's pipeline."""
    return load(MODULE)


@pytest.fixture
def prices(registry: Registry) -> ModuleType:
    """The example's own code."""
    assert "example.price_list" in registry
    return sys.modules[MODULE]


async def test_lists_of_a_shop_are_stored_in_order_and_never_two_at_a_time(
    settings: Settings, pg: asyncpg.Connection[asyncpg.Record], registry: Registry, prices: ModuleType
) -> None:
    lists = [
        prices.PriceList(shop=shop, version=version, prices={"tea": version, "milk": 2 * version})
        for version in range(1, VERSIONS + 1)
        for shop in SHOPS
    ]
    async with running_service(settings, registry):
        rows = await finished(pg, await prices.send(pg, lists))

    assert {(row["status"], row["attempt"]) for row in rows} == {("succeeded", 1)}
    for shop in SHOPS:
        starts = [row["started_at"] for row in rows if row["partition_key"] == f"shop:{shop}"]
        assert starts == sorted(starts)
    runs = sorted((row["started_at"], row["finished_at"]) for row in rows)
    assert all(before[1] <= after[0] for before, after in pairwise(runs))
    assert await pg.fetchval("select count(*) from prices where version = $1", VERSIONS) == 2 * len(SHOPS)


async def test_a_bad_list_holds_up_its_shop_alone_until_it_is_canceled(
    settings: Settings, pg: asyncpg.Connection[asyncpg.Record], registry: Registry, prices: ModuleType
) -> None:
    bad = prices.PriceList(shop="north", version=1, prices={"tea": 0})
    good = [prices.PriceList(shop=shop, version=2, prices={"tea": 3}) for shop in ("north", "south")]
    async with running_service(settings, registry) as service:
        [failed, blocked, free] = await prices.send(pg, [bad, *good])
        rows = await finished(pg, [failed, free])
        assert [row["status"] for row in rows] == ["failed", "succeeded"]
        assert await pg.fetchval("select status from dl_jobs where job_id = $1", blocked) == "queued"

        await _cancel(pg, service, failed)
        [row] = await finished(pg, [blocked])

    assert row["status"] == "succeeded"
    assert await _versions(pg, ["north", "south"]) == [2, 2]


async def _cancel(pg: asyncpg.Connection[asyncpg.Record], service: Service, job_id: UUID) -> None:
    """Cancel as the service does: the row first, then the turn of those behind it."""
    done = await IntakeRepository("public").cancel(pg, job_id, actor="test")
    assert done is not None
    assert done.keys == Keys.of("table:prices", "shop:north")
    service.ctx.notifier.announce(["promote"])


async def _versions(pg: asyncpg.Connection[asyncpg.Record], shops: Sequence[str]) -> list[int]:
    async def both() -> list[int]:
        rows = await pg.fetch("select version from prices where shop = any($1) order by shop", shops)
        return [row["version"] for row in rows]

    return list(await eventually(both))
