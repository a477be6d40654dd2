"""One storm: processes, clients and nemesis together, then rest, then what is left."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataloader.config import Settings
from tests.chaos.checks import deadlocks, unrest
from tests.chaos.matrix.clients import BULK, Clients
from tests.chaos.matrix.dropping import DroppingProxy
from tests.chaos.matrix.histories import TABLES, Histories, read
from tests.chaos.matrix.nemesis import Done, Nemesis
from tests.chaos.matrix.orders import FAULTS, LEDGER, Orders
from tests.chaos.matrix.outside import Outside
from tests.chaos.matrix.service import Ended, Service
from tests.chaos.processes import Fleet
from tests.chaos.proxy import SOCKET
from tests.workers.harness import eventually

TIMERS: dict[str, Any] = {
    "dl_default_lease_ttl_sec": 2,
    "dl_heartbeat_sec": 0.4,
    "dl_reaper_period_sec": 0.4,
    "dl_poll_sec": 0.4,
    "dl_cancel_grace_sec": 1,
    "dl_shutdown_grace_sec": 5,
    "dl_claim_backoff_sec": 2,
}
WORKERS, APIS, SINGLES = 4, 2, 6
_REST_S = 120.0


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a storm is.

    Attributes:
        rounds: How often each cell of the matrix is hit.
        duration_s: Over how long the faults are spread; it lasts longer when they take longer.
        jobs: How many jobs there are at least.
    """

    rounds: int
    duration_s: float
    jobs: int


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a storm has left."""

    done: Done
    histories: Histories
    unexplained: list[Ended]
    restarts: int
    took_s: float


async def rage(settings: Settings, folder: Path, pg: Any, *, scale: Scale, chance: random.Random) -> Aftermath:
    """Let a storm rage over a database and return what is left.

    Args:
        settings: Lead to the server's socket.
        folder: Where processes run and histories are written.
        pg: A direct connection.
        scale: How large it is.
        chance: Its randomness.
    """
    began_s = time.monotonic()
    await pg.execute(TABLES)
    orders = Orders(folder / FAULTS)
    fleet = Fleet(settings.model_copy(update=TIMERS), folder)
    lease_s = float(TIMERS["dl_default_lease_ttl_sec"])
    async with _proxied(settings, orders) as host:
        service = Service(fleet, str(host))
        try:
            clients = Clients(service.start(workers=WORKERS, apis=APIS), chance, folder / "clients")
            outside = Outside(service, pg, chance=chance, lease_s=lease_s)
            nemesis = Nemesis(
                orders,
                service,
                outside,
                cancel=clients.cancel_slow_ones,
                burst=clients.burst,
                chance=chance,
                lease_s=lease_s,
            )
            await _weather(service, clients, nemesis, pg, scale)
        finally:
            await fleet.close()
    left = await _left(pg)
    histories = await read(pg, told=clients.told, ledger=folder / LEDGER, left=left)
    unexplained = service.unexplained()
    return Aftermath(nemesis.done, histories, unexplained, len(service.ended), time.monotonic() - began_s)


async def _weather(service: Service, clients: Clients, nemesis: Nemesis, pg: Any, scale: Scale) -> None:
    calm, kept = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(service.keep(kept))
        await eventually(service.is_whole, within_s=60)
        every_s = scale.duration_s * BULK / scale.jobs
        asking = group.create_task(clients.run(calm, singles=SINGLES, bulks=scale.jobs // BULK, bulk_every_s=every_s))
        await nemesis.run(rounds=scale.rounds, duration_s=scale.duration_s)
        calm.set()
        await asking
        await eventually(lambda: _at_rest(pg), within_s=_REST_S, every_s=0.2)
        await eventually(service.is_whole, within_s=60)
        kept.set()
    await service.end()


async def _at_rest(pg: Any) -> bool:
    return not await pg.fetchval("select count(*) from dl_jobs where finished_at is null")


async def _left(pg: Any) -> dict[str, int]:
    """Wait until nothing is left; return what is left all the same."""

    async def nothing() -> bool:
        return not any((await unrest(pg)).values())

    try:
        await eventually(nothing, within_s=10)
    except AssertionError:
        return await unrest(pg)
    return {"deadlocks": await deadlocks(pg)}


@asynccontextmanager
async def _proxied(settings: Settings, orders: Orders) -> AsyncIterator[Path]:
    assert settings.pg_host is not None
    proxy = DroppingProxy(Path(settings.pg_host) / SOCKET, orders)
    with tempfile.TemporaryDirectory(prefix="dl-matrix-") as short:
        async with proxy.listening(Path(short)) as folder:
            yield folder
