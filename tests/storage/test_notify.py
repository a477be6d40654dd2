"""Notifier and listener: NOTIFY wakes, and whatever breaks is rebuilt and says "look for yourself"."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import structlog
from structlog.stdlib import BoundLogger

from dataloader.config import Settings
from dataloader.logger import Loggers
from dataloader.storage.db import Connection
from dataloader.storage.notifier import BULK_S, Notifier
from dataloader.storage.notify_listener import ANYTHING, NotifyListener
from tests.conftest import _settings, direct_dsn
from tests.storage.proxy import proxied
from tests.storage.scene import until
from tests.storage.test_connections import server_place

SILENT = Loggers.silent().app


class Heard:
    """What a subscriber was told."""

    def __init__(self, listener: NotifyListener, kind: str) -> None:
        self.values: list[str] = []
        listener.subscribe(kind, self.values.append)

    async def gets(self, value: str) -> None:
        """Wait until a value has come."""

        async def came() -> bool:
            return value in self.values

        await until(came)


@asynccontextmanager
async def running(*components: Any) -> AsyncIterator[asyncio.Event]:
    """Run components until the block ends."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for component in components:
            group.create_task(component.run(stop))
        try:
            yield stop
        finally:
            stop.set()


async def is_connected(listener: NotifyListener) -> None:
    """Wait until a listener listens."""

    async def connected() -> bool:
        return listener.connected

    await until(connected)


async def listening(pg: Connection) -> int | None:
    """Return the server process of the listener."""
    pid: int | None = await pg.fetchval(
        "select pid from pg_stat_activity where application_name = 'dataloader listener'"
        " and datname = current_database()"
    )
    return pid


class TestListener:
    async def test_a_notification_reaches_the_subscribers_of_its_kind(self, settings: Settings, pg: Connection) -> None:
        listener = NotifyListener(settings, SILENT)
        queue, also, cancel, done = (Heard(listener, kind) for kind in ("queue", "queue", "cancel", "done"))

        async with running(listener):
            await is_connected(listener)
            for payload in ("queue:load.cbr", "cancel:a:b", "unknown:x", "", "done"):
                await pg.execute("select pg_notify('dl_public', $1)", payload)
            await done.gets("")

        assert queue.values == also.values == [ANYTHING, "load.cbr"]
        assert cancel.values == [ANYTHING, "a:b"]

    async def test_other_channels_are_not_heard(self, settings: Settings, pg: Connection) -> None:
        listener = NotifyListener(settings, SILENT)
        heard = Heard(listener, "queue")

        async with running(listener):
            await is_connected(listener)
            await pg.execute("select pg_notify('dl_other', 'queue:theirs'), pg_notify('dl_public', 'queue:ours')")
            await heard.gets("ours")

        assert heard.values == [ANYTHING, "ours"]

    async def test_what_this_process_sends_itself_is_not_heard_again(
        self, settings: Settings, pg: Connection, other: Connection
    ) -> None:
        listener = NotifyListener(settings, SILENT)
        heard = Heard(listener, "queue")
        listener.ignore("test", pg.get_server_pid())

        async with running(listener):
            await is_connected(listener)
            await pg.execute("select pg_notify('dl_public', 'queue:mine')")
            await other.execute("select pg_notify('dl_public', 'queue:theirs')")
            await heard.gets("theirs")

        assert heard.values == [ANYTHING, "theirs"]

    async def test_a_backend_that_is_ended_is_replaced_at_once_every_time(
        self, settings: Settings, pg: Connection
    ) -> None:
        """Were the pause not to start anew with each connection, the eighth time alone would take four seconds."""
        logger, told = captured()
        listener = NotifyListener(settings, logger)
        heard = Heard(listener, "queue")

        async def told_anew(turn: int) -> None:
            async def back() -> bool:
                return heard.values == [ANYTHING] * turn

            await until(back)

        async with asyncio.timeout(8), running(listener):
            for turn in range(1, 9):
                await told_anew(turn)
                pid = await until(lambda: listening(pg))
                await pg.execute("select pg_terminate_backend($1, 5000)", pid)
            await told_anew(9)
            await pg.execute("select pg_notify('dl_public', 'queue:after')")
            await heard.gets("after")

        assert [entry["event"] for entry in told] == ["listener lost, polling meanwhile"] * 8

    async def test_a_connection_that_goes_silent_is_found_by_the_probe(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str, pg: Connection
    ) -> None:
        async with proxied(server_place(server)) as proxy:
            settings = make_settings(dl_listen_dsn=proxy.dsn(database))
            listener = NotifyListener(settings, SILENT, probe_s=0.05, patience_s=0.2)
            heard = Heard(listener, "queue")

            async with running(listener):
                await is_connected(listener)
                proxy.silence()

                async def reconnected() -> bool:
                    return heard.values == [ANYTHING] * 2

                await until(reconnected)
                await pg.execute("select pg_notify('dl_public', 'queue:after')")
                await heard.gets("after")

        assert heard.values == [ANYTHING, ANYTHING, "after"]

    async def test_a_server_that_is_away_is_waited_for_and_said_once(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str
    ) -> None:
        logger, told = captured()
        attempts: list[object] = []

        async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            attempts.append(writer)
            writer.transport.abort()

        async with proxied(server_place(server)) as proxy:
            await proxy.close()
            refusing = await asyncio.start_server(refuse, "127.0.0.1", proxy.port)
            listener = NotifyListener(make_settings(dl_listen_dsn=proxy.dsn(database)), logger)
            heard = Heard(listener, "queue")

            async with running(listener):

                async def tried_again() -> bool:
                    return len(attempts) > 2

                await until(tried_again)
                assert not listener.connected
                refusing.close()
                await proxy.open()
                await heard.gets(ANYTHING)

        assert [entry["level"] for entry in told] == ["warning"]

    async def test_a_listen_that_a_pooler_swallowed_counts_as_lost_and_the_message_says_what_to_do(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str
    ) -> None:
        logger, told = captured()
        async with proxied(server_place(server)) as proxy:
            proxy.rewrites = {b"LISTEN": b"NOTIFY"}
            listener = NotifyListener(make_settings(dl_listen_dsn=proxy.dsn(database)), logger)
            heard = Heard(listener, "queue")

            async with running(listener):

                async def said() -> bool:
                    return bool(told)

                await until(said)
                assert not listener.connected
                assert heard.values == []
                proxy.rewrites = {}
                await is_connected(listener)

        assert "DL_LISTEN_DSN" in told[0]["reason"]

    async def test_it_stops_while_it_waits_for_the_server(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str
    ) -> None:
        async with proxied(server_place(server)) as proxy:
            await proxy.close()
            listener = NotifyListener(make_settings(dl_listen_dsn=proxy.dsn(database)), SILENT)
            async with asyncio.timeout(5), running(listener):
                await asyncio.sleep(0)
            await proxy.open()

    async def test_none_turns_it_off(self, make_settings: Callable[..., Settings], pg: Connection) -> None:
        listener = NotifyListener(make_settings(dl_listen_dsn="none"), SILENT)
        heard = Heard(listener, "queue")

        async with running(listener):
            await pg.execute("select pg_notify('dl_public', 'queue:x')")
            assert await listening(pg) is None

        assert not listener.connected
        assert heard.values == []


def captured() -> tuple[BoundLogger, list[dict[str, Any]]]:
    """Return a logger, and the list that its lines go to."""
    told: list[dict[str, Any]] = []

    def keep(_logger: object, method: str, entry: Any) -> Any:
        told.append(dict(entry) | {"level": method})
        raise structlog.DropEvent

    return BoundLogger(None, processors=[keep], context={}), told


class TestNotifier:
    @pytest.fixture
    async def heard(self, other: Connection) -> list[str]:
        """What another process hears."""
        heard: list[str] = []
        await other.add_listener("dl_public", lambda *told: heard.append(str(told[-1])))
        return heard

    async def test_this_process_is_told_at_once_and_the_others_by_notify(
        self, settings: Settings, heard: list[str]
    ) -> None:
        here: list[str] = []
        pids: list[int] = []
        notifier = Notifier(settings, tell_here=here.append, own_pid=lambda _, pid: pids.append(pid), logger=SILENT)

        async with running(notifier):
            notifier.announce(["queue:a", "done"])
            assert here == ["queue:a", "done"]
            await until(lambda: _holds(heard, {"queue:a", "done"}))

        assert len(pids) == 1

    async def test_a_burst_is_told_once_per_payload(self, settings: Settings, heard: list[str]) -> None:
        here: list[str] = []
        notifier = Notifier(settings, tell_here=here.append, own_pid=lambda *_: None, logger=SILENT)

        async with running(notifier):
            for _ in range(1_000):
                notifier.announce(["queue:a"])
            notifier.announce(["queue:b"])
            await until(lambda: _holds(heard, {"queue:a", "queue:b"}))

        assert len(here) == 1_001
        assert sorted(heard) == ["queue:a", "queue:b"]

    async def test_what_goes_on_in_bulk_is_told_a_few_times_a_second(
        self, settings: Settings, heard: list[str]
    ) -> None:
        notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=SILENT)
        loop = asyncio.get_running_loop()

        async with running(notifier):
            until_s = loop.time() + 5 * BULK_S
            while loop.time() < until_s:
                notifier.announce(["done"], in_bulk=True)
                await asyncio.sleep(0)
            notifier.announce(["queue:end"])
            await until(lambda: _holds(heard, {"queue:end"}))

        assert 2 <= heard.count("done") <= 7

    async def test_what_is_said_once_does_not_wait_for_what_goes_on_in_bulk(
        self, settings: Settings, heard: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with holding_back(settings, heard, monkeypatch) as notifier:
            notifier.announce(["queue:a"])
            await until(lambda: _holds(heard, {"queue:a"}))

        assert heard == ["done", "done", "queue:a"]

    async def test_what_goes_on_in_bulk_is_told_when_nothing_else_is_said(
        self, settings: Settings, heard: list[str]
    ) -> None:
        notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=SILENT)

        async with running(notifier):
            for turn in range(1, 5):
                notifier.announce(["done"], in_bulk=True)
                await until(partial(_holds, heard, {"done"}, times=turn))

    async def test_who_says_nothing_to_others_does_not_hurry_what_goes_on_in_bulk(
        self, settings: Settings, pg: Connection, heard: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with holding_back(settings, heard, monkeypatch) as notifier:
            notifier.announce([])
            notifier.announce(["queue:here"], here_only=True)
            for turn in range(20):
                await pg.execute("select pg_notify('dl_public', $1)", f"meanwhile:{turn}")
                await until(partial(_holds, heard, {f"meanwhile:{turn}"}))
            assert heard.count("done") == 1

        await until(lambda: _holds(heard, {"done"}, times=2))

    async def test_nothing_to_announce_sends_nothing(self, settings: Settings, pg: Connection) -> None:
        notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=SILENT)

        async with running(notifier):
            notifier.announce([])
            connected = (
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and application_name = 'dataloader notifier'"
            )
            assert await pg.fetchval(connected) == 0

    async def test_what_is_pending_when_it_stops_is_sent_before_it_ends(
        self, settings: Settings, heard: list[str]
    ) -> None:
        notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=SILENT)

        async with running(notifier) as stop:
            await asyncio.sleep(0)
            stop.set()
            notifier.announce(["queue:last"])

        await until(lambda: _holds(heard, {"queue:last"}))

    async def test_an_announcement_that_is_lost_is_not_retried_and_the_next_gets_through(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str, heard: list[str]
    ) -> None:
        logger, told = captured()
        async with proxied(server_place(server)) as proxy:
            await proxy.close()
            settings = make_settings(dl_db_dsn=proxy.dsn(database))
            notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=logger)

            async with running(notifier):
                notifier.announce(["queue:lost"])

                async def lost() -> bool:
                    return bool(told)

                await until(lost)
                await proxy.open()
                notifier.announce(["queue:next"])
                await until(lambda: _holds(heard, {"queue:next"}))

        assert heard == ["queue:next"]
        assert [entry["level"] for entry in told] == ["debug"]

    async def test_a_listener_and_a_notifier_of_one_process_tell_everything_once(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str, pg: Connection
    ) -> None:
        settings = make_settings(dl_listen_dsn=None, dl_db_dsn=direct_dsn(_settings(server, database)))
        listener = NotifyListener(settings, SILENT)
        notifier = Notifier(settings, tell_here=listener.dispatch, own_pid=listener.ignore, logger=SILENT)
        heard = Heard(listener, "queue")

        async with running(listener, notifier):
            await is_connected(listener)
            for turn in range(5):
                notifier.announce([f"queue:{turn}"])
            await pg.execute("select pg_notify('dl_public', 'queue:end')")
            await heard.gets("end")

        assert sorted(heard.values) == [ANYTHING, "0", "1", "2", "3", "4", "end"]


@asynccontextmanager
async def holding_back(
    settings: Settings, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Notifier]:
    """Run a notifier that has told one word of what goes on in bulk, and holds the next one back."""
    monkeypatch.setattr("dataloader.storage.notifier.BULK_S", 1e6)
    notifier = Notifier(settings, tell_here=lambda _: None, own_pid=lambda *_: None, logger=SILENT)
    async with running(notifier):
        notifier.announce(["done"], in_bulk=True)
        await until(lambda: _holds(heard, {"done"}))
        notifier.announce(["done"], in_bulk=True)
        yield notifier


async def _holds(heard: list[str], payloads: set[str], *, times: int = 1) -> bool:
    return all(heard.count(payload) >= times for payload in payloads)
