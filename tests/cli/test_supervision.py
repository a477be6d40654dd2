"""Components end in order, die loudly, and a signal more hurries them."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

import asyncpg
import pytest

from dataloader.cli.ending import ComponentDiedError
from dataloader.cli.readiness import patiently, unless_stopped
from dataloader.cli.signals import Shutdown
from dataloader.cli.supervision import run_until_stopped
from dataloader.config import load_settings
from dataloader.exceptions import DatabaseAwayError, SettingsError
from dataloader.logger import Loggers, open_loggers


@dataclass(slots=True)
class Part:
    """A component that notes when it ends, or does what it is told."""

    name: str
    ended: list[str]
    act: Callable[[], None] | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, stop: asyncio.Event) -> None:
        self.started.set()
        if self.act is not None:
            self.act()
            return
        await stop.wait()
        self.ended.append(self.name)


@dataclass(slots=True)
class Log:
    """What was logged."""

    loggers: Loggers
    stream: io.StringIO

    def lines(self) -> list[str]:
        self.loggers.close()
        return self.stream.getvalue().splitlines()


@pytest.fixture
def log() -> Log:
    stream = io.StringIO()
    return Log(open_loggers(load_settings(_env_file=None), stream=stream), stream)


async def test_the_front_ends_before_what_it_stands_on(log: Log) -> None:
    ended: list[str] = []
    stop = asyncio.Event()
    front = Part("api", ended)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_until_stopped([Part("notifier", ended)], [front], stop=stop, logger=log.loggers.app))
        await front.started.wait()
        stop.set()
    assert ended == ["api", "notifier"]
    assert log.lines() == []


def fail() -> None:
    raise RuntimeError("broken")


@pytest.mark.parametrize("act", [fail, lambda: None])
@pytest.mark.parametrize("in_front", [True, False])
async def test_a_death_is_one_line_that_names_the_part(log: Log, act: Callable[[], None], *, in_front: bool) -> None:
    ended: list[str] = []
    dying, living = [Part("doomed", ended, act)], [Part("well", ended)]
    ground, front = (living, dying) if in_front else (dying, living)
    with pytest.raises(ComponentDiedError):
        await run_until_stopped(ground, front, stop=asyncio.Event(), logger=log.loggers.app)
    (line,) = log.lines()
    assert '"component": "doomed"' in line or '"component":"doomed"' in line
    assert ended == []


async def test_a_setting_that_does_not_work_out_is_no_death(log: Log) -> None:
    def refuse() -> None:
        raise SettingsError("APP_PORT: 8081 is taken")

    with pytest.raises(SettingsError, match="APP_PORT"):
        await run_until_stopped([], [Part("api", [], refuse)], stop=asyncio.Event(), logger=log.loggers.app)
    assert log.lines() == []


async def test_signals_stop_then_hurry_then_end() -> None:
    calls: list[object] = []
    shutdown = Shutdown(limit_s=60, exit_now=calls.append)
    shutdown.on_hurry = lambda: calls.append("hurry")
    shutdown.on_change = calls.append
    with shutdown.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(shutdown.stop.wait(), 5)
        shutdown.receive(signal.SIGINT)
        shutdown.receive(signal.SIGTERM)
    assert [call for call in calls if not str(call).startswith("stopping")] == ["hurry", 143]
    assert len(calls) == 4


async def test_work_is_given_up_at_the_wish_to_end() -> None:
    stop, begun, cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work() -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return 1

    async with asyncio.TaskGroup() as group:
        outcome = group.create_task(unless_stopped(work(), stop))
        await begun.wait()
        stop.set()
    assert outcome.result() is None
    assert cancelled.is_set()


async def test_work_that_ends_first_is_returned_and_its_error_raised() -> None:
    async def one() -> int:
        return 1

    async def refuse() -> int:
        raise SettingsError("no")

    assert await unless_stopped(one(), asyncio.Event()) == 1
    with pytest.raises(SettingsError):
        await unless_stopped(refuse(), asyncio.Event())


async def test_an_absent_database_is_waited_for_with_two_lines(log: Log) -> None:
    outcomes: list[Exception | None] = [DatabaseAwayError("refused"), DatabaseAwayError("refused"), None]

    async def attempt() -> None:
        if error := outcomes.pop(0):
            raise error

    await patiently(attempt, stop=asyncio.Event(), logger=log.loggers.app, pause_s=0.001)
    away, back = log.lines()
    assert "database away, waiting for it" in away
    assert "refused" in away
    assert "database is there" in back


async def test_the_wait_for_a_database_ends_with_a_signal(log: Log) -> None:
    stop = asyncio.Event()

    async def attempt() -> None:
        stop.set()
        raise DatabaseAwayError("refused")

    await patiently(attempt, stop=stop, logger=log.loggers.app)
    assert len(log.lines()) == 1


@pytest.mark.parametrize("grouped", [False, True])
async def test_a_lacking_privilege_at_run_time_is_a_sentence(log: Log, grouped: bool) -> None:
    def refused() -> None:
        error = asyncpg.InsufficientPrivilegeError("permission denied for table dl_jobs")
        raise ExceptionGroup("several", [error]) if grouped else error

    with pytest.raises(SettingsError, match=r"lacks a privilege \(permission denied for table dl_jobs\)"):
        await run_until_stopped([], [Part("a", [], refused)], stop=asyncio.Event(), logger=log.loggers.app)
    assert "Traceback" not in "".join(log.lines())


async def leave_behind(error: BaseException, log: Log) -> list[str]:
    """Let a component leave a future with an error that nobody looks at, and return what was logged."""
    stop = asyncio.Event()

    def leave() -> None:
        asyncio.get_running_loop().create_future().set_exception(error)
        gc.collect()
        stop.set()

    part = Part("part", [], act=leave)
    await run_until_stopped([], [part], stop=stop, logger=log.loggers.app)
    asyncio.get_running_loop().set_exception_handler(None)
    return log.lines()


async def test_an_error_that_nobody_looked_at_is_logged(log: Log) -> None:
    lines = await leave_behind(ValueError("lost"), log)

    assert "left uncaught in the event loop" in lines[0]
    assert "ValueError: lost" in "\n".join(lines)


async def test_a_connection_that_died_in_the_middle_is_not_reported_a_second_time(log: Log) -> None:
    assert await leave_behind(asyncpg.ConnectionDoesNotExistError("connection was closed"), log) == []
