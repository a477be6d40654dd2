"""The API under many clients, beside busy and blocked workers, and while its process ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import psutil
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import charged, quantile
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue, eventually, finished, job_row

CLIENTS = 64
PROBE_PAUSE_S = 0.005


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        yield session


async def test_many_clients_with_the_same_keys_get_one_job_per_key(
    fleet: Fleet, http: aiohttp.ClientSession, pg: Any, size: Size, report: Callable[..., None]
) -> None:
    keys = size.pick(small=20, full=1_000)
    urls = [await _api(fleet, http, "api") for _ in range(2)]
    answers: defaultdict[str, list[tuple[int, object]]] = defaultdict(list)
    waits_s: list[float] = []

    async def client(number: int) -> None:
        for n in range(keys):
            body = {"queue": "chaos", "task": "chaos.load", "args": {"chunks": 0}, "idempotency_key": f"key-{n}"}
            sent_s = time.monotonic()
            async with http.post(f"{urls[number % 2]}/api/v1/jobs/trigger", json=body) as response:
                answers[f"key-{n}"].append((response.status, (await response.json()).get("job_id")))
            waits_s.append(time.monotonic() - sent_s)

    began_s = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(CLIENTS):
            group.create_task(client(number))
    took_s = time.monotonic() - began_s
    codes = Counter(code for pairs in answers.values() for code, _ in pairs)
    jobs = await pg.fetchval("select count(*) from dl_jobs")
    report(
        clients=CLIENTS,
        keys=keys,
        requests_per_s=CLIENTS * keys / took_s,
        answer_ms={f"p{q}": 1000 * quantile(waits_s, q / 100) for q in (50, 99)},
        codes=dict(codes),
        jobs=jobs,
    )
    assert jobs == keys
    assert codes == {201: keys, 200: (CLIENTS - 1) * keys}
    for key, pairs in answers.items():
        assert len(pairs) == CLIENTS, key
        assert len({job_id for _, job_id in pairs}) == 1, key
        assert pairs[0][1], key


async def test_health_answers_fast_beside_busy_workers(
    *, fleet: Fleet, http: aiohttp.ClientSession, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    url = await _api(fleet, http, "", queues={"chaos": 16})
    chunks, probes = size.pick(small=(200, 200), full=(2_000, 2_000))
    load = {"chunks": chunks, "rows": 20, "sleep_s": 0.02}
    ids = await enqueue(pg, settings, *[NewJob("chaos", "chaos.load", load) for _ in range(16)])
    await eventually(lambda: pg.fetchval("select count(*) = 16 from dl_jobs where status = 'running'"))
    waits_s = [await _probe(http, url) for _ in range(probes)]
    running = await pg.fetchval("select count(*) from dl_jobs where status = 'running'")
    report(
        probes=probes,
        running_meanwhile=running,
        health_ms={f"p{q}": 1000 * quantile(waits_s, q / 100) for q in (50, 99)} | {"max": 1000 * max(waits_s)},
    )
    assert running == 16
    assert quantile(waits_s, 0.99) < size.pick(small=0.1, full=0.02)
    await pg.execute("update dl_jobs set cancel_requested = true where status = 'running'")
    await finished(pg, ids, within_s=30)


async def test_a_blocked_pipeline_is_noticed_by_nobody_else(
    *, fleet: Fleet, http: aiohttp.ClientSession, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    lease_s, beat_s = size.pick(small=(2.0, 0.5), full=(20.0, 5.0))
    timers: dict[str, Any] = {"dl_default_lease_ttl_sec": lease_s, "dl_heartbeat_sec": beat_s}
    url = await _api(fleet, http, "", queues={"noop": 2}, **timers)
    await fleet.started[0].works()
    await fleet.start(queues={"chaos": 2}, **timers).works()
    (blocked,) = await enqueue(pg, settings, NewJob("noop", "noop", {"chunks": 1, "block_s": 3 * lease_s}))
    await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", blocked))
    health_s: list[float] = []
    pickup_s: list[float] = []
    while not (await job_row(pg, blocked))["finished_at"]:
        health_s += [await _probe(http, url) for _ in range(10)]
        (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load", {"chunks": 0}))
        (row,) = await finished(pg, [job_id])
        pickup_s.append((row["started_at"] - row["available_at"]).total_seconds())
    row = await job_row(pg, blocked)
    report(
        blocked_for_s=3 * lease_s,
        lease_s=lease_s,
        health_ms={"p99": 1000 * quantile(health_s, 0.99), "max": 1000 * max(health_s)},
        pickup_elsewhere_ms={"p50": 1000 * quantile(pickup_s, 0.5), "max": 1000 * max(pickup_s)},
        charged=charged([row]),
    )
    assert (row["finished_at"] - row["started_at"]).total_seconds() > 3 * lease_s
    assert row["epoch"] == 1
    assert not any(charged([row]).values())
    assert quantile(health_s, 0.99) < size.pick(small=0.1, full=0.02)
    assert max(pickup_s) < 1


async def test_a_long_poll_does_not_hold_up_the_end(
    fleet: Fleet, http: aiohttp.ClientSession, pg: Any, settings: Settings, report: Callable[..., None]
) -> None:
    url = await _api(fleet, http, "", queues={"chaos": 2})
    (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load", {"chunks": 500, "pause_s": 0.05}))
    await eventually(lambda: pg.fetchval("select status = 'running' from dl_jobs where job_id = $1", job_id))

    async def poll() -> tuple[int, str]:
        async with http.get(f"{url}/api/v1/jobs/{job_id}/status", params={"wait": 30}) as response:
            return response.status, (await response.json())["status"]

    polls = [asyncio.create_task(poll()) for _ in range(50)]
    await _have_been_read(url, len(polls))
    began_s = time.monotonic()
    fleet.started[0].signal(signal.SIGTERM)
    code = await fleet.started[0].ends()
    took_s = time.monotonic() - began_s
    answers = Counter(await asyncio.gather(*polls))
    row = await job_row(pg, job_id)
    report(open_polls=len(polls), exit_code=code, took_s=took_s, answers={str(a): n for a, n in answers.items()})
    assert code == 0
    assert took_s < settings.dl_shutdown_grace_sec
    assert {status for status, _ in answers} == {200}
    assert (row["status"], row["attempt"], row["losses"], row["handovers"]) == ("queued", 0, 0, 1)


async def _have_been_read(url: str, count: int) -> None:
    """Wait until the API has so many connections, and has answered one that came after them."""
    port = int(url.rpartition(":")[2])

    async def connected() -> bool:
        return (
            sum(c.laddr[1:] == (port,) and c.status == "ESTABLISHED" for c in psutil.net_connections("tcp4")) >= count
        )

    async with aiohttp.ClientSession() as late:
        await eventually(connected)
        assert await _healthy(late, url)


async def _healthy(http: aiohttp.ClientSession, url: str) -> bool:
    async with http.get(f"{url}/health") as response:
        return response.status == 200


async def _api(fleet: Fleet, http: aiohttp.ClientSession, command: str, **how: Any) -> str:
    """Start a process with an API; return its address once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = fleet.start(command, app_port=port, **how)
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        assert process.exit_code is None, process.log()
        try:
            async with http.get(f"{url}/health") as response:
                return response.status == 200
        except aiohttp.ClientConnectionError:
            return False

    await eventually(answers)
    return url


async def _probe(http: aiohttp.ClientSession, url: str) -> float:
    await asyncio.sleep(PROBE_PAUSE_S)
    sent_s = time.monotonic()
    async with http.get(f"{url}/health") as response:
        assert response.status == 200
        await response.read()
    return time.monotonic() - sent_s
