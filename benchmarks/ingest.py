"""How many triggers a second the API takes: one by one beside an endpoint without database, and in bulk."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import aiohttp

from benchmarks import bare_api, raw
from benchmarks.processes import base_environment, free_port, running
from dataloader.config import Settings
from dataloader.storage.db import connect

CLIENTS = 64
TRIGGER = "/api/v1/jobs/trigger"
BULK = f"{TRIGGER}/bulk"
_START_TIMEOUT_S = 30.0
_HEADERS = {"content-type": "application/json"}


@asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[str]:
    """Run an API with the bare endpoint beside its own; yield its address once it is there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = base_environment(settings) | {"APP_PORT": str(port)}
    async with running("api", environment, module=bare_api.__name__), aiohttp.ClientSession() as session:
        async with asyncio.timeout(_START_TIMEOUT_S):
            while not await _is_up(session, url):
                await asyncio.sleep(0.1)
        yield url


async def single_rate(url: str, count: int) -> float:
    """Return requests per second, each with one job, from 64 connections."""
    bodies = iter([json.dumps(_job(number)).encode() for number in range(count)])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CLIENTS), headers=_HEADERS) as session:
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(_post_all(session, url, bodies))
        return count / (time.perf_counter() - started_s)


async def bulk_rate(url: str, count: int) -> float:
    """Return jobs per second of one request with so many."""
    body = json.dumps({"jobs": [_job(number) for number in range(count)]}).encode()
    async with aiohttp.ClientSession(headers=_HEADERS) as session:
        started_s = time.perf_counter()
        await _post_all(session, url, iter([body]))
        return count / (time.perf_counter() - started_s)


async def raw_bulk_rate(settings: Settings, count: int) -> float:
    """Return rows per second of one statement of asyncpg that inserts the same jobs and a line of history of each."""
    jobs = [_job(number) for number in range(count)]
    connection = await connect(settings, purpose="bench raw", command_timeout_s=120)
    try:
        await raw.prepare(connection, 0)
        started_s = time.perf_counter()
        await connection.execute(
            raw.INSERT_MANY,
            [job["queue"] for job in jobs],
            [job["task"] for job in jobs],
            [json.dumps(job["args"]) for job in jobs],
        )
        return count / (time.perf_counter() - started_s)
    finally:
        await connection.close()


def _job(number: int) -> dict[str, object]:
    return {"queue": "bench", "task": "bench.noop", "args": {"n": number}}


async def _post_all(session: aiohttp.ClientSession, url: str, bodies: Iterator[bytes]) -> None:
    for body in bodies:
        async with session.post(url, data=body) as response:
            assert response.status == 201, await response.text()
            await response.read()


async def _is_up(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(f"{url}/health"):
            return True
    except aiohttp.ClientError:
        return False
