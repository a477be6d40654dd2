"""Starting, sharing and stopping a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from dataloader.config import load_settings
from dataloader.embedded import EmbeddedServer
from dataloader.embedded.home import Home
from tests.embedded.scene import User, connection, eventually, live_postmaster, nothing_left, processes
from tests.embedded.user import FAST

Spawn = Callable[[], Awaitable[User]]


async def test_first_start_makes_a_server_with_the_database(postgres: EmbeddedServer) -> None:
    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("select current_database()") == "dataloader"
        assert await pg.fetchval("show server_encoding") == "UTF8"
        assert await pg.fetchval("show data_checksums") == "on"


async def test_overrides_are_settings_that_lead_to_the_server(postgres: EmbeddedServer) -> None:
    settings = load_settings(_env_file=None, **postgres.overrides())

    async with postgres:
        pg = await asyncpg.connect(
            host=settings.pg_host, port=settings.pg_port, user=settings.pg_user, database=settings.pg_database
        )
        await pg.close()

    assert settings.has_database


async def test_server_is_reached_through_a_private_socket_only(postgres: EmbeddedServer, home: Home) -> None:
    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("show listen_addresses") == ""
        assert (postgres.socket_dir / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700
        assert postgres.socket_dir.stat().st_mode & 0o777 == 0o700


async def test_settings_have_safe_defaults_and_can_be_overridden(home: Home) -> None:
    async with EmbeddedServer(home.root, settings={"jit": "on"}) as postgres, connection(postgres) as pg:
        shown = {
            name: await pg.fetchval(f"show {name}") for name in ("fsync", "max_connections", "shared_buffers", "jit")
        }

    assert shown == {"fsync": "on", "max_connections": "200", "shared_buffers": "128MB", "jit": "on"}


async def test_data_outlive_the_server(postgres: EmbeddedServer) -> None:
    async with postgres, connection(postgres) as pg:
        await pg.execute("create table kept as select 42 as n")

    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("select n from kept") == 42


async def test_last_user_stops_the_server(postgres: EmbeddedServer, home: Home, spawn: Spawn) -> None:
    async with postgres:
        first = live_postmaster(home)
        other = await spawn()
        assert await other.says() == "started"
        assert live_postmaster(home) == first
        assert await other.leave() == "left"
        assert live_postmaster(home) == first
        assert await postgres.stop() is True

    await eventually(lambda: nothing_left(home))


async def test_user_that_started_the_server_may_leave_first(postgres: EmbeddedServer, home: Home, spawn: Spawn) -> None:
    async with postgres:
        other = await spawn()
        assert await other.says() == "started"
        assert await postgres.stop() is False
        async with connection(postgres) as pg:
            assert await pg.fetchval("select 1") == 1
        assert await other.leave() == "stopped"

    await eventually(lambda: nothing_left(home))


async def test_stopping_twice_or_before_a_start_does_nothing(postgres: EmbeddedServer) -> None:
    assert await postgres.stop() is False
    async with postgres:
        assert await postgres.stop() is True
        assert await postgres.stop() is False


async def test_starting_twice_is_one_use(postgres: EmbeddedServer) -> None:
    async with postgres:
        await postgres.start()
        assert await postgres.stop() is True


async def test_four_processes_that_start_at_once_share_one_server(home: Home, spawn: Spawn) -> None:
    users = [await spawn() for _ in range(4)]

    assert [await user.says() for user in users] == ["started"] * 4
    assert [await user.leave() for user in users] == ["left"] * 3 + ["stopped"]
    assert home.log.read_text().count("starting PostgreSQL") == 1


async def test_start_right_after_a_stop_finds_a_watchdog(postgres: EmbeddedServer, home: Home, spawn: Spawn) -> None:
    async with postgres:
        pass
    user = await spawn()
    assert await user.says() == "started"
    await user.kill()

    await eventually(lambda: nothing_left(home))


async def test_ctrl_c_does_not_reach_the_server(postgres: EmbeddedServer, home: Home) -> None:
    async with postgres:
        assert all(os.getsid(process.pid) != os.getsid(0) for process in processes(home))


@pytest.mark.parametrize("name", ["with space", 'it\'s "quoted" & $HOME; ü', "long" * 50])
async def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    async with EmbeddedServer(tmp_path / name / "data", settings=FAST) as postgres, connection(postgres) as pg:
        assert await pg.fetchval("select 1") == 1

    assert postgres.socket_dir.is_relative_to(tmp_path) or not postgres.socket_dir.exists()


async def test_cancelled_start_leaves_no_user(postgres: EmbeddedServer, home: Home) -> None:
    starting = asyncio.ensure_future(postgres.start())
    await eventually(home.users_lock.exists)
    starting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await starting
    await eventually(lambda: nothing_left(home))
    async with postgres:
        assert await postgres.stop() is True
