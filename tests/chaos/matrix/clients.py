"""Clients of the storm: they trigger, cancel, retry and look, and ask again until an answer is clear."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.chaos.matrix.histories import Told

BULK = 400
ANSWER_S = 8.0
MAX_LOSSES = 100
"""A job may be struck again and again: none is to be given up."""

_UNCLEAR = 500
_PAUSE_S = 0.1


class Clients:
    """Clients that know several addresses of the service.

    Args:
        urls: Where the API listens.
        chance: The randomness of this storm.
        file: Where the history goes, a JSON line per answer.
    """

    def __init__(self, urls: Sequence[str], chance: random.Random, file: Path) -> None:
        self._urls = urls
        self._chance = chance
        self._file = file
        self._jobs: list[str] = []
        self._number = 0
        self._bulks = 0
        self._slow: deque[str] = deque(maxlen=6)
        self._http: aiohttp.ClientSession | None = None
        self.told: list[Told] = []

    async def run(self, stop: asyncio.Event, *, singles: int, bulks: int, bulk_every_s: float) -> None:
        """Ask until told to stop, for so many bulks at most; an unclear answer is followed up even then."""
        self._bulks = bulks
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=ANSWER_S)
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            self._http = http
            group.create_task(self._repeat(stop, bulk_every_s, http, self._bulk))
            for _ in range(singles):
                group.create_task(self._repeat(stop, 0.4, http, self._single))
            group.create_task(self._repeat(stop, 0.15, http, self._move))
        self._file.write_text("".join(json.dumps(one._asdict()) + "\n" for one in self.told))

    async def cancel_slow_ones(self) -> None:
        """Cancel jobs that take long and came last: most of them run."""
        if self._http is not None:
            await asyncio.gather(*(self._operate(self._http, job, "cancel") for job in self._slow))

    async def _repeat(self, stop: asyncio.Event, pause_s: float, http: aiohttp.ClientSession, ask: Any) -> None:
        while not stop.is_set():
            began_s = time.monotonic()
            await ask(http)
            left_s = began_s + pause_s * self._chance.uniform(0.5, 1.5) - time.monotonic()
            try:
                async with asyncio.timeout(max(left_s, 0)):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _bulk(self, http: aiohttp.ClientSession) -> None:
        if not self._bulks:
            return
        self._bulks -= 1
        await self._trigger_many(http)

    async def burst(self) -> None:
        """Trigger many jobs at once, beyond those that were planned."""
        if self._http is not None:
            await self._trigger_many(self._http)

    async def _trigger_many(self, http: aiohttp.ClientSession) -> None:
        item: dict[str, Any] = {"queue": "bulk", "task": "matrix.nothing", "max_losses": MAX_LOSSES}
        items = [item | {"idempotency_key": self._key("bulk")} for _ in range(BULK)]
        while True:
            sent_s = time.monotonic()
            code, answer = await self._ask(http, "/api/v1/jobs/trigger/bulk", {"jobs": items})
            jobs = answer.get("jobs") or [{}] * len(items)
            now_s = time.monotonic()
            for item, one in zip(items, jobs, strict=True):
                self._tell(
                    Told("trigger", code, sent_s, now_s, item["idempotency_key"], one.get("job_id"), one.get("status"))
                )
            if code and code < _UNCLEAR:
                return
            await asyncio.sleep(_PAUSE_S)

    async def _single(self, http: aiohttp.ClientSession) -> None:
        kind = self._chance.choice(
            ["plain", "plain", "lock", "lock", "partition", "both", "fails", "hopeless", "late", "slow"]
        )
        body = {"queue": "chaos", "task": "matrix.load", "idempotency_key": self._key(kind)} | self._body(kind)
        while True:
            sent_s = time.monotonic()
            code, answer = await self._ask(http, "/api/v1/jobs/trigger", body)
            job = answer.get("job_id") if code < 300 else None
            self._tell(
                Told(
                    "trigger",
                    code,
                    sent_s,
                    time.monotonic(),
                    body["idempotency_key"],
                    job,
                    answer.get("status") if job else None,
                    body.get("partition_key"),
                    body["args"]["chunks"],
                )
            )
            if job is not None:
                self._jobs.append(job)
                if kind == "slow":
                    self._slow.append(job)
            if code and code < _UNCLEAR:
                return
            await asyncio.sleep(_PAUSE_S)

    def _body(self, kind: str) -> dict[str, Any]:
        chance = self._chance
        args: dict[str, Any] = {"chunks": chance.randint(1, 5), "sleep_s": chance.choice([0, 0, 0.005, 0.02])}
        body: dict[str, Any] = {"args": args, "max_losses": MAX_LOSSES}
        match kind:
            case "lock":
                body["lock_key"] = f"k{chance.randrange(12)}"
            case "partition":
                body["partition_key"] = f"p{chance.randrange(8)}"
            case "both":
                body |= {"lock_key": f"k{chance.randrange(12)}", "partition_key": f"p{chance.randrange(8)}"}
            case "fails":
                args |= {"chunks": 3, "failures": chance.randint(1, 3)}
                body["max_attempts"] = 100
            case "hopeless":
                args |= {"chunks": 2, "failures": 1_000}
                body["max_attempts"] = 2
            case "late":
                body["available_at"] = (datetime.now(UTC) + timedelta(seconds=chance.uniform(0.2, 2))).isoformat()
            case "slow":
                args |= {"chunks": 25, "pause_s": 0.05}
                body["max_attempts"] = 100
        return body | {"max_attempts": body.get("max_attempts", 100)}

    async def _move(self, http: aiohttp.ClientSession) -> None:
        """Cancel, retry or look at one of the later jobs."""
        if not self._jobs:
            return
        job = self._jobs[-1 - min(int(self._chance.expovariate(1 / 15)), len(self._jobs) - 1)]
        await self._operate(http, job, self._chance.choice(["cancel", "cancel", "retry", "retry", "status"]))

    async def _operate(self, http: aiohttp.ClientSession, job: str, op: str) -> None:
        sent_s = time.monotonic()
        code, answer = await self._ask(http, f"/api/v1/jobs/{job}/{op}", None if op == "status" else {})
        self._tell(Told(op, code, sent_s, time.monotonic(), None, job, answer.get("status") if code == 200 else None))

    async def _ask(
        self, http: aiohttp.ClientSession, path: str, body: Mapping[str, object] | None
    ) -> tuple[int, dict[str, Any]]:
        """Return code and answer; 0 when nobody answered, so that what happened is unclear."""
        url = self._chance.choice(self._urls) + path
        method = "GET" if body is None else "POST"
        try:
            async with http.request(method, url, json=body or None) as response:
                return response.status, await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, {}

    def _key(self, kind: str) -> str:
        self._number += 1
        return f"{kind}-{self._number}"

    def _tell(self, told: Told) -> None:
        self.told.append(told)
