"""Connections: when the database counts as away, and when a pinned connection is dropped."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from dataloader.config import Settings, load_settings
from dataloader.exceptions import DatabaseAwayError, InvalidError, SettingsError
from dataloader.storage.db import Connection, PinnedConnection, connect, is_away, is_passing, open_engine, translated
from tests.conftest import _settings
from tests.storage.proxy import proxied
from tests.storage.scene import until

AWAY = [
    "08000",
    "08001",
    "08003",
    "08004",
    "08006",
    "08007",
    "08P01",
    "53100",
    "53300",
    "57P01",
    "57P02",
    "57P03",
    "57P05",
    "25006",
]
PASSING = ["40001", "40P01", "55P03", "57014", "53200", "0A000"]
NEITHER = ["22P02", "23505", "23514", "25P02", "25P03", "42601", "42P01", "42501", "57P04", "58030", "XX000", "XX001"]

_ROUTINE = {"0A000": "RevalidateCachedQuery"}  # by which the driver tells a stale plan from other features


def server_error(state: str) -> asyncpg.PostgresError:
    """Return the driver's error for a SQLSTATE."""
    error = asyncpg.PostgresError.new({"S": "ERROR", "C": state, "M": "refused", "R": _ROUTINE.get(state, "")})
    assert isinstance(error, asyncpg.PostgresError)
    return error


def through_sqlalchemy(error: BaseException, *, invalidated: bool = False) -> DBAPIError:
    """Return an error as SQLAlchemy passes it on."""
    adapted = Exception(str(error))
    adapted.__cause__ = error
    return DBAPIError("select 1", None, adapted, connection_invalidated=invalidated)


class TestWhatCountsAsAway:
    @pytest.mark.parametrize("state", AWAY + PASSING + NEITHER)
    def test_an_error_of_the_server(self, state: str) -> None:
        error = server_error(state)

        assert is_away(error) is (state in AWAY)
        assert is_passing(error) is (state not in NEITHER)
        assert is_away(through_sqlalchemy(error)) is (state in AWAY)

    @pytest.mark.parametrize(
        ("error", "away"),
        [
            (ConnectionRefusedError(), True),
            (FileNotFoundError("no socket"), True),
            (socket.gaierror("no such host"), True),
            (TimeoutError(), True),
            (PoolTimeoutError(), True),
            (asyncpg.InternalClientError("unexpected message"), True),
            (asyncpg.InterfaceError("connection is closed"), True),
            (asyncpg.InterfaceError("the underlying connection is closed"), True),
            (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), False),
            (DatabaseAwayError("gone"), True),
            (InvalidError("no"), False),
            (ValueError("no"), False),
            (KeyError("no"), False),
        ],
    )
    def test_an_error_of_the_client(self, error: Exception, away: bool) -> None:
        assert is_away(error) is away
        assert is_passing(error) is away

    def test_a_connection_that_sqlalchemy_gave_up(self) -> None:
        assert is_away(through_sqlalchemy(ValueError("x"), invalidated=True))
        assert not is_away(through_sqlalchemy(ValueError("x")))

    def test_what_caused_an_error_of_ours_counts_and_what_merely_came_before_does_not(self) -> None:
        ours, theirs = InvalidError("wrapped"), ValueError("not ours")
        ours.__cause__ = theirs.__cause__ = ConnectionResetError()

        assert is_away(ours)
        assert not is_away(theirs)

    def test_a_circle_of_causes_ends(self) -> None:
        one, two = InvalidError("one"), InvalidError("two")
        one.__cause__, two.__cause__ = two, one

        assert not is_away(one)

    @pytest.mark.parametrize(
        ("error", "becomes", "says"),
        [
            (ConnectionRefusedError(), DatabaseAwayError, "cannot be reached: ConnectionRefusedError"),
            (TimeoutError(), DatabaseAwayError, "did not answer in time"),
            (server_error("57P01"), DatabaseAwayError, "cannot be reached: AdminShutdownError"),
            (server_error("28P01"), SettingsError, "PG_PASSWORD or DL_DB_DSN: the server refused the login"),
            (server_error("28000"), SettingsError, "PG_USER"),
            (server_error("3D000"), SettingsError, "PG_DATABASE"),
            (DatabaseAwayError("as it is"), DatabaseAwayError, "^as it is$"),
            (server_error("23505"), asyncpg.UniqueViolationError, "refused"),
            (ValueError("other"), ValueError, "other"),
        ],
    )
    def test_it_becomes_an_error_one_can_act_on(self, error: Exception, becomes: type[Exception], says: str) -> None:
        with pytest.raises(becomes, match=says), translated():
            raise error


class TestConnecting:
    async def test_without_a_database_the_message_names_both_ways(self) -> None:
        with pytest.raises(SettingsError, match="PG_HOST or DL_DB_DSN"):
            await connect(load_settings(_env_file=None), purpose="test")

    async def test_a_server_that_is_not_there_is_away(self, tmp_path: Path, unused_port: int) -> None:
        for where in ({"pg_host": str(tmp_path)}, {"pg_host": "127.0.0.1", "pg_port": unused_port}):
            with pytest.raises(DatabaseAwayError):
                await connect(load_settings(_env_file=None, **where), purpose="test")

    async def test_a_missing_database_is_named(self, server: dict[str, object]) -> None:
        with pytest.raises(SettingsError, match="nowhere"):
            await connect(_settings(server, "nowhere"), purpose="test")

    async def test_the_purpose_shows_on_the_server(self, settings: Settings, pg: Connection) -> None:
        connection = await connect(settings, purpose="some part")
        try:
            await connection.fetchval("select 1")
            shown = await pg.fetchval(
                "select count(*) from pg_stat_activity"
                " where datname = current_database() and application_name = 'dataloader some part'"
            )
            assert shown == 1
        finally:
            connection.terminate()


_DEFAULTS = {
    "default_transaction_isolation": "serializable",
    "statement_timeout": "7s",
    "transaction_timeout": "8s",
    "lock_timeout": "9s",
    "idle_session_timeout": "10s",
}


class TestDefaultsOfARole:
    """What a role or database sets for others must not break promotion or end long chunks."""

    @pytest.fixture
    async def odd(self, direct: Settings, pg: Connection) -> AsyncIterator[Settings]:
        kept = await pg.fetchval("select current_setting('statement_timeout')")
        known = await pg.fetch("select name from pg_settings where name = any($1)", list(_DEFAULTS))
        names = [row["name"] for row in known]
        for name in names:
            await pg.execute(f"alter database \"{direct.pg_database}\" set {name} = '{_DEFAULTS[name]}'")
        yield direct
        for name in names:
            await pg.execute(f'alter database "{direct.pg_database}" reset {name}')
        await pg.execute(f"alter database \"{direct.pg_database}\" set statement_timeout = '{kept}'")

    async def shown(self, connection: Connection) -> dict[str, str]:
        rows = await connection.fetch("select name, setting from pg_settings where name = any($1)", list(_DEFAULTS))
        return {row["name"]: row["setting"] for row in rows}

    async def test_our_connections_read_committed_and_set_their_own_limits(self, odd: Settings) -> None:
        connection = await connect(odd, purpose="control")
        try:
            shown = await self.shown(connection)
            assert shown.pop("default_transaction_isolation") == "read committed"
            assert set(shown.values()) == {"0"}
        finally:
            connection.terminate()

    async def test_requests_keep_the_limits_of_the_role(self, odd: Settings) -> None:
        engine = open_engine(odd)
        try:
            async with engine.begin() as connection:
                found = await connection.execute(
                    text(
                        "select current_setting('transaction_isolation'), current_setting('statement_timeout'),"
                        " current_setting('idle_session_timeout')"
                    )
                )
                assert tuple(found.one()) == ("read committed", "7s", "0")
        finally:
            await engine.dispose()

    async def test_behind_a_transaction_pooler_nothing_is_set_that_another_client_would_get(
        self, odd: Settings
    ) -> None:
        pooled = odd.model_copy(update={"dl_pg_statement_cache": 0})
        connection = await connect(pooled, purpose="control")
        try:
            assert (await self.shown(connection))["default_transaction_isolation"] == "serializable"
        finally:
            connection.terminate()


def _place(settings: Settings) -> dict[str, object]:
    """Return the parts of a DSN as settings."""
    assert settings.dl_db_dsn is not None
    parts = urlsplit(settings.dl_db_dsn.get_secret_value())
    query = parse_qs(parts.query)
    return {
        "pg_host": parts.hostname or query["host"][0],
        "pg_port": int(parts.port or query.get("port", ["5432"])[0]),
        "pg_user": parts.username or "postgres",
    }


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def pinned(settings: Settings) -> AsyncIterator[PinnedConnection]:
    pinned = PinnedConnection(settings, purpose="test")
    yield pinned
    await pinned.close()


async def ask(pinned: PinnedConnection, sql: str, *values: object) -> object:
    async with pinned.use() as connection:
        return await connection.fetchval(sql, *values)


class TestPinned:
    async def test_one_connection_serves_one_caller_after_the_other(self, pinned: PinnedConnection) -> None:
        assert await asyncio.gather(*(ask(pinned, f"select {n}") for n in range(20))) == list(range(20))
        assert pinned.generation == 1

    async def test_an_error_of_a_statement_keeps_it(self, pinned: PinnedConnection) -> None:
        with pytest.raises(asyncpg.DivisionByZeroError):
            await ask(pinned, "select 1 / 0")

        assert await ask(pinned, "select 1") == 1
        assert pinned.generation == 1

    async def test_an_error_inside_a_transaction_drops_it(self, pinned: PinnedConnection) -> None:
        async def fail() -> None:
            async with pinned.use() as connection:
                await connection.execute("begin")
                await connection.execute("select 1 / 0")

        with pytest.raises(asyncpg.DivisionByZeroError):
            await fail()

        assert await ask(pinned, "select 1") == 1
        assert pinned.generation == 2

    async def test_an_error_of_the_callers_own_drops_it(self, pinned: PinnedConnection) -> None:
        async def fail() -> None:
            async with pinned.use() as connection:
                await connection.fetchval("select 1")
                raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await fail()

        assert await ask(pinned, "select 1") == 1
        assert pinned.generation == 2

    async def test_a_cancelled_query_does_not_poison_the_next(self, pinned: PinnedConnection, pg: Connection) -> None:
        await ask(pinned, "select 1")
        sleeper = asyncio.ensure_future(ask(pinned, "select 42 from pg_sleep(60)"))
        await until(
            lambda: pg.fetchval(
                "select 1 from pg_stat_activity where datname = current_database() and query like 'select 42 %'"
            )
        )
        sleeper.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sleeper

        assert [await ask(pinned, f"select {n}") for n in range(3)] == [0, 1, 2]
        assert pinned.generation == 2

    async def test_random_cancels_leave_nothing_behind(self, pinned: PinnedConnection, pg: Connection) -> None:
        for turn in range(30):
            task = asyncio.ensure_future(ask(pinned, "select count(*) from generate_series(1, 20000)"))
            for _ in range(turn % 6):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait({task})
            assert await ask(pinned, f"select {turn}") == turn

        left = (
            "select count(*) <= 1 from pg_stat_activity"
            " where datname = current_database() and application_name = 'dataloader test'"
        )
        assert await until(lambda: pg.fetchval(left))

    async def test_a_waiter_that_is_cancelled_leaves_the_connection_to_its_user(self, pinned: PinnedConnection) -> None:
        async with pinned.use() as connection:
            waiter = asyncio.ensure_future(ask(pinned, "select 1"))
            await asyncio.sleep(0)
            waiter.cancel()
            await asyncio.wait({waiter})
            assert await connection.fetchval("select 1") == 1

        assert pinned.generation == 1

    async def test_a_statement_that_takes_too_long_counts_as_away(self, pinned: PinnedConnection) -> None:
        with pytest.raises(DatabaseAwayError):
            async with pinned.use() as connection:
                await connection.fetchval("select pg_sleep(60)", timeout=0.05)

        assert await ask(pinned, "select 1") == 1
        assert pinned.generation == 2

    async def test_a_backend_that_is_ended_counts_as_away_and_the_next_use_opens_another(
        self, pinned: PinnedConnection, pg: Connection
    ) -> None:
        pid = await ask(pinned, "select pg_backend_pid()")
        await pg.execute("select pg_terminate_backend($1, 5000)", pid)

        async def works() -> bool:
            try:
                return await ask(pinned, "select 1") == 1
            except DatabaseAwayError:
                return False

        assert await until(works)
        assert await ask(pinned, "select pg_backend_pid()") != pid

    async def test_a_backend_that_is_ended_in_the_middle_counts_as_away(
        self, pinned: PinnedConnection, pg: Connection
    ) -> None:
        pid = await ask(pinned, "select pg_backend_pid()")
        async with asyncio.TaskGroup() as group:
            sleeper = group.create_task(_outcome(ask(pinned, "select pg_sleep(60)")))
            await until(
                lambda: pg.fetchval(
                    "select 1 from pg_stat_activity"
                    " where datname = current_database() and query = 'select pg_sleep(60)'"
                )
            )
            await pg.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and query = 'select pg_sleep(60)'"
            )

        assert sleeper.result() == "DatabaseAwayError"
        assert await ask(pinned, "select pg_backend_pid()") != pid

    async def test_closing_and_dropping_twice_is_fine_and_a_later_use_opens_again(
        self, pinned: PinnedConnection
    ) -> None:
        await ask(pinned, "select 1")
        await pinned.close()
        await pinned.close()
        pinned.drop()

        assert await ask(pinned, "select 1") == 1
        pinned.drop()
        pinned.drop()
        assert await ask(pinned, "select 1") == 1
        assert pinned.generation == 3

    async def test_closing_does_not_wait_for_a_server_that_has_gone_silent(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str
    ) -> None:
        async with proxied(server_place(server)) as proxy:
            pinned = PinnedConnection(make_settings(dl_db_dsn=proxy.dsn(database)), purpose="test")
            await ask(pinned, "select 1")
            proxy.silence()

            async with asyncio.timeout(4):
                await pinned.close()

    async def test_a_server_that_goes_silent_in_the_middle_counts_as_away(
        self, server: dict[str, object], make_settings: Callable[..., Settings], database: str
    ) -> None:
        async with proxied(server_place(server)) as proxy:
            pinned = PinnedConnection(make_settings(dl_db_dsn=proxy.dsn(database)), purpose="test")
            await ask(pinned, "select 1")
            proxy.silence()

            with pytest.raises(DatabaseAwayError):
                async with pinned.use() as connection:
                    await connection.fetchval("select 1", timeout=0.2)

            assert await ask(pinned, "select 1") == 1
            await pinned.close()


def server_place(server: dict[str, object]) -> Settings:
    """Return where the server itself takes connections."""
    settings = load_settings(_env_file=None, **server)
    return settings.model_copy(update=_place(settings)) if settings.dl_db_dsn else settings


async def _outcome(work: object) -> str:
    """Return the name of the error that a piece of work ends with."""
    try:
        await work  # type: ignore[misc]
    except Exception as error:  # noqa: BLE001 - the name is what the tests are about
        return type(error).__name__
    return "none"


class TestTheEngine:
    @pytest.mark.parametrize("cache", [0, 100])
    async def test_statements_are_not_mixed_up_with_or_without_a_statement_cache(
        self, make_settings: Callable[..., Settings], cache: int
    ) -> None:
        engine = open_engine(make_settings(dl_pg_statement_cache=cache))
        try:
            async with engine.connect() as connection:
                for _ in range(3):
                    assert await connection.scalar(text("select 1")) == 1
                    assert await connection.scalar(text("select 'two'")) == "two"
        finally:
            await engine.dispose()

    async def test_after_one_that_died_in_the_pool_none_of_its_age_is_lent(
        self, direct: Settings, pg: Connection
    ) -> None:
        engine = open_engine(direct)
        one = text("select pg_backend_pid()")
        try:
            async with engine.connect() as first, engine.connect() as second:
                pids = [await first.scalar(one), await second.scalar(one)]
            await pg.execute("select pg_terminate_backend(pid, 5000) from unnest($1::int[]) pid", pids)
            with pytest.raises(DatabaseAwayError), translated():
                async with engine.connect() as connection:
                    await connection.scalar(one)

            async with engine.connect() as first, engine.connect() as second:
                assert {await first.scalar(one), await second.scalar(one)}.isdisjoint(pids)
        finally:
            await engine.dispose()

    async def test_a_connection_that_dies_in_use_counts_as_away(self, settings: Settings, pg: Connection) -> None:
        engine = open_engine(settings)
        try:
            async with engine.connect() as connection:
                pid = await connection.scalar(text("select pg_backend_pid()"))
                await pg.execute("select pg_terminate_backend($1, 5000)", pid)
                with pytest.raises(DatabaseAwayError), translated():
                    await connection.scalar(text("select 1"))
        finally:
            await engine.dispose()

    async def test_a_server_that_is_not_there_counts_as_away(self, unused_port: int) -> None:
        engine = open_engine(load_settings(_env_file=None, pg_host="127.0.0.1", pg_port=unused_port))
        with pytest.raises(DatabaseAwayError), translated():
            async with engine.connect():
                pass
        await engine.dispose()


class TestManyClientsOfAFewServerConnections:
    """Behind a pooler a statement may meet another server connection than the one before."""

    async def test_every_client_of_the_engine_gets_its_own_answers(self, settings: Settings) -> None:
        engine = open_engine(settings)

        async def work(client: int) -> None:
            for turn in range(40):
                async with engine.begin() as connection:
                    assert await connection.scalar(text(f"select {client} + :turn"), {"turn": turn}) == client + turn
                    if turn % 3 == 0:
                        assert await connection.scalar(text(f"select 'client {client}'")) == f"client {client}"

        try:
            await asyncio.gather(*(work(1_000 * client) for client in range(10)))
        finally:
            await engine.dispose()

    async def test_every_pinned_connection_gets_its_own_answers(self, settings: Settings) -> None:
        async def work(client: int) -> None:
            pinned = PinnedConnection(settings, purpose="test")
            for turn in range(40):
                async with pinned.use() as connection:
                    assert await connection.fetchval(f"select {client} + $1::int", turn) == client + turn
                    if turn % 3 == 0:
                        rows = await connection.fetch(f"select {client}::bigint as n, $1::text[] as a", [str(turn)])
                        assert [tuple(row) for row in rows] == [(client, [str(turn)])]
            assert pinned.generation == 1
            await pinned.close()

        await asyncio.gather(*(work(1_000 * client) for client in range(10)))

    async def test_a_value_that_cannot_be_sent_leaves_the_connection_in_order(self, pinned: PinnedConnection) -> None:
        for turn in range(5):
            with pytest.raises(asyncpg.DataError):
                await ask(pinned, "select $1::int", "no number")
            assert await ask(pinned, f"select {turn}") == turn
