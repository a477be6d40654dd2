"""examples/http_pages: pages become chunks, and a retry goes on at the page that was bad."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from aiohttp import web

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.workers.pipelines.registry import Registry
from tests.workers.harness import enqueue, eventually, finished, running_service

MODULE = "examples.http_pages.orders"
PAGE = 3


@dataclass
class Shop:
    """An API with as many orders as wanted; `bad_after` is an order whose next page comes once as a broken answer."""

    orders: int
    bad_after: int | None = None
    asked: list[int] = field(default_factory=list)
    base_url: str = ""

    async def answer(self, request: web.Request) -> web.Response:
        after = int(request.query["after"])
        self.asked.append(after)
        if after == self.bad_after:
            self.bad_after = None
            return web.Response(text="<html>down for maintenance</html>")
        page = range(after + 1, min(after + PAGE, self.orders) + 1)
        return web.Response(text=json.dumps({"orders": [_order(number) for number in page]}))


def _order(number: int) -> dict[str, object]:
    return {
        "order_id": number,
        "customer": f"customer {number}",
        "amount": "9.90",
        "placed_at": "2026-01-31T08:00:00Z",
    }


@asynccontextmanager
async def serving(shop: Shop) -> AsyncIterator[Shop]:
    """Serve a shop on a free port of this machine."""
    app = web.Application()
    app.router.add_get("/orders", shop.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    shop.base_url = site.name
    try:
        yield shop
    finally:
        await runner.cleanup()


def _job(shop: Shop) -> NewJob:
    return NewJob("example", "example.orders", {"base_url": shop.base_url}, lock_key="table:orders")


async def test_every_page_is_loaded_and_the_next_job_starts_behind_the_newest_order(
    settings: Settings, pg: asyncpg.Connection[asyncpg.Record], load: Callable[[str], Registry]
) -> None:
    async with serving(Shop(orders=7)) as shop, running_service(settings, load(MODULE)):
        [first] = await finished(pg, await enqueue(pg, settings, _job(shop)))
        shop.orders, asked = 9, len(shop.asked)
        [second] = await finished(pg, await enqueue(pg, settings, _job(shop)))

    assert json.loads(first["result"]) == {"orders": 7, "newest_order_id": 7}
    assert json.loads(second["result"]) == {"orders": 2, "newest_order_id": 9}
    assert shop.asked[asked:] == [7, 9]
    assert await pg.fetchval("select array_agg(order_id order by order_id) from orders") == list(range(1, 10))


async def test_a_bad_page_fails_the_attempt_and_the_next_one_asks_for_no_earlier_page(
    settings: Settings, pg: asyncpg.Connection[asyncpg.Record], load: Callable[[str], Registry]
) -> None:
    async with serving(Shop(orders=7, bad_after=3)) as shop, running_service(settings, load(MODULE)):
        job_ids = await enqueue(pg, settings, _job(shop))
        await eventually(lambda: pg.fetchval("select 1 from dl_jobs where error is not null"))
        assert await pg.fetchval("select count(*) from orders") == 3

        await pg.execute("update dl_jobs set available_at = clock_timestamp() where status = 'queued'")
        [row] = await finished(pg, job_ids)

    assert (row["status"], row["attempt"]) == ("succeeded", 2)
    assert shop.asked == [0, 3, 3, 6, 7]
    assert await pg.fetchval("select count(*) from orders") == 7
