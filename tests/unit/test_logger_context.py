"""Lines carry the request and the run they belong to."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest

from dataloader.config import Settings
from dataloader.logger import Loggers, bind_job, bind_request, open_loggers

JOB = UUID("01890000-0000-7000-8000-000000000001")


class _Log:
    """Open logs and the lines they wrote."""

    def __init__(self, loggers: Loggers, console: io.StringIO) -> None:
        self.app = loggers.app
        self._loggers = loggers
        self._console = console

    def lines(self) -> list[dict[str, object]]:
        self._loggers.close()
        lines = [json.loads(line) for line in self._console.getvalue().splitlines()]
        return [{key: line[key] for key in line if key not in {"timestamp", "level"}} for line in lines]


@pytest.fixture
def log() -> Iterator[_Log]:
    console = io.StringIO()
    with closing(open_loggers(Settings(_env_file=None), stream=console)) as loggers:
        yield _Log(loggers, console)


def test_lines_within_a_request_carry_its_id(log: _Log) -> None:
    with bind_request("r1"):
        log.app.info("within")
        logging.getLogger("library").warning("within too")
    log.app.info("after")
    assert log.lines() == [
        {"event": "within", "request_id": "r1"},
        {"event": "within too", "logger": "library", "request_id": "r1"},
        {"event": "after"},
    ]


def test_lines_within_a_run_carry_job_task_and_epoch(log: _Log) -> None:
    with bind_request("r1"), bind_job(JOB, "cbr.rates", 3):
        log.app.info("within")
    assert log.lines() == [{"event": "within", "request_id": "r1", "job_id": str(JOB), "task": "cbr.rates", "epoch": 3}]


def test_the_outer_run_returns_when_the_inner_one_fails(log: _Log) -> None:
    with bind_job("outer", "a", 1):
        with pytest.raises(ValueError, match="x"), bind_job("inner", "b", 2):
            raise ValueError("x")
        log.app.info("outside")
    assert log.lines() == [{"event": "outside", "job_id": "outer", "task": "a", "epoch": 1}]


async def test_concurrent_runs_keep_their_fields_apart(log: _Log) -> None:
    both = asyncio.Barrier(2)

    async def run(job_id: str) -> None:
        with bind_job(job_id, "t", 1):
            await both.wait()
            log.app.info("line", own=job_id)

    async with asyncio.TaskGroup() as group:
        group.create_task(run("a"))
        group.create_task(run("b"))
    lines = log.lines()
    assert len(lines) == 2
    assert all(line["job_id"] == line["own"] for line in lines)


async def test_a_thread_of_the_run_inherits_its_fields(log: _Log) -> None:
    with bind_job("a", "t", 1):
        await asyncio.to_thread(log.app.info, "from a thread")
    assert log.lines()[0]["job_id"] == "a"


def test_bare_threads_bind_their_own_fields(log: _Log) -> None:
    both = threading.Barrier(2, timeout=5)

    def run(job_id: str) -> None:
        with bind_job(job_id, "t", 1):
            both.wait()
            log.app.info("line", own=job_id)

    threads = [threading.Thread(target=run, args=(job_id,)) for job_id in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    lines = log.lines()
    assert len(lines) == 2
    assert all(line["job_id"] == line["own"] for line in lines)
