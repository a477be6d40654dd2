"""What `kill -9` of anything leaves: nothing, or a server that comes back with its data."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import psutil
import pytest

from dataloader.embedded import EmbeddedServer, EmbeddedServerError
from dataloader.embedded.accounts import server_account
from dataloader.embedded.cluster import way_into
from dataloader.embedded.home import Home
from dataloader.embedded.processes import stop_server
from tests.embedded.scene import (
    User,
    backends,
    connection,
    eventually,
    live_postmaster,
    nothing_left,
    processes,
    watchdogs,
)

Spawn = Callable[[], Awaitable[User]]
BUSY = "do $$ begin loop end loop; end $$"


async def answers(postgres: EmbeddedServer) -> object:
    """Wait until the server answers a query."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with connection(postgres) as pg:
                    return await pg.fetchval("select n from kept")
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)


@asynccontextmanager
async def supervised(postgres: EmbeddedServer) -> AsyncIterator[None]:
    """Use the server with its supervision running and a table in it."""
    stop = asyncio.Event()
    async with postgres, asyncio.TaskGroup() as group:
        group.create_task(postgres.run(stop))
        async with connection(postgres) as pg:
            await pg.execute("create table kept as select 42 as n")
        yield
        stop.set()


async def test_killed_last_user_leaves_nothing(home: Home, spawn: Spawn) -> None:
    user = await spawn()
    assert await user.says() == "started"
    await user.kill()

    assert await eventually(lambda: nothing_left(home)) < 5
    assert "database system is shut down" in home.log.read_text()


async def test_killed_user_takes_nothing_from_the_others(postgres: EmbeddedServer, home: Home, spawn: Spawn) -> None:
    async with postgres, connection(postgres) as pg:
        user = await spawn()
        assert await user.says() == "started"
        await user.kill()
        await pg.execute("select pg_sleep(1)")
        assert len(watchdogs(home)) == 1


async def test_user_killed_with_the_watchdog_leaves_a_server_for_the_next(
    postgres: EmbeddedServer, home: Home, spawn: Spawn
) -> None:
    user = await spawn()
    assert await user.says() == "started"
    user.process.send_signal(signal.SIGSTOP)
    for watchdog in watchdogs(home):
        watchdog.kill()
    await eventually(lambda: not watchdogs(home))
    await user.kill()
    left = live_postmaster(home)

    async with postgres:
        assert live_postmaster(home) == left
        assert len(watchdogs(home)) == 1
        assert await postgres.stop() is True


async def test_killed_watchdog_is_replaced(postgres: EmbeddedServer, home: Home) -> None:
    async with supervised(postgres):
        [watchdog] = watchdogs(home)
        watchdog.kill()
        await eventually(lambda: bool(watchdogs(home)) and watchdogs(home) != [watchdog])


async def test_killed_postmaster_comes_back_with_the_data(postgres: EmbeddedServer, home: Home) -> None:
    async with supervised(postgres):
        killed = live_postmaster(home)
        killed.kill()
        assert await answers(postgres) == 42
        assert live_postmaster(home) != killed


async def test_backend_that_survives_its_postmaster_does_not_keep_it_away(postgres: EmbeddedServer, home: Home) -> None:
    async with supervised(postgres), connection(postgres) as pg:
        pid = await pg.fetchval("select pg_backend_pid()")
        endless = asyncio.ensure_future(pg.execute(BUSY))
        await eventually(lambda: psutil.Process(pid).cpu_times().user > 0.1)
        live_postmaster(home).kill()
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await endless
        assert await answers(postgres) == 42


async def test_killed_backend_is_the_servers_own_affair(postgres: EmbeddedServer, home: Home) -> None:
    async with supervised(postgres):
        first = live_postmaster(home)
        backends(home)[0].kill()
        await eventually(lambda: "terminated by signal 9" in home.log.read_text())
        assert await answers(postgres) == 42
        assert live_postmaster(home) == first


async def test_server_and_user_killed_together_leave_nothing(home: Home, spawn: Spawn) -> None:
    user = await spawn()
    assert await user.says() == "started"
    live_postmaster(home).kill()
    await user.kill()

    assert await eventually(lambda: nothing_left(home)) < 5


@pytest.mark.parametrize("victim", ["user", "initdb"])
async def test_killed_initdb_is_begun_anew(postgres: EmbeddedServer, home: Home, spawn: Spawn, victim: str) -> None:
    user = await spawn()
    await eventually((home.unfinished_cluster / "global").exists)
    if victim == "initdb":
        for process in psutil.Process(user.process.pid).children():
            process.kill()
        assert await user.says() == ""
    await user.kill()
    assert not home.cluster.exists()

    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("select 1") == 1
    assert not home.unfinished_cluster.exists()


async def test_user_killed_while_the_server_starts_leaves_nothing(home: Home, spawn: Spawn) -> None:
    user = await spawn()
    await eventually(home.cluster.exists)
    await user.kill()

    assert await eventually(lambda: nothing_left(home)) < 5


async def test_pid_file_that_names_a_stranger_is_not_believed(postgres: EmbeddedServer, home: Home) -> None:
    async with postgres:
        pass
    stale = home.cluster / "postmaster.pid"
    stale.write_text(f"{os.getppid()}\n{home.cluster}\n")
    (postgres.socket_dir / ".s.PGSQL.5432.lock").write_text(f"{os.getppid()}\n")

    async with postgres, connection(postgres) as pg:
        assert await pg.fetchval("select 1") == 1


async def test_server_that_somebody_else_started_on_the_data_is_not_disturbed(
    postgres: EmbeddedServer, home: Home
) -> None:
    async with postgres:
        program = live_postmaster(home).cmdline()[0]
    account = server_account(home.cluster)
    with way_into(home.cluster, account) as (path, descriptors):
        process = await asyncio.create_subprocess_exec(
            *(program, "-D", path, "-k", ".", "-p", "5433"),
            user=account.uid if account else None,
            pass_fds=descriptors,
            cwd="/",
            stderr=DEVNULL,
        )
    try:
        await eventually((home.cluster / ".s.PGSQL.5433").exists)
        with pytest.raises(EmbeddedServerError, match=f"process {process.pid} serves .* stop it first"):
            await postgres.start()
        assert await asyncio.to_thread(stop_server, home)
        asked = await asyncpg.connect(host=str(home.cluster), port=5433, user="postgres", database="postgres")
        await asked.close()
        assert live_postmaster(home).pid == process.pid
    finally:
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0


async def test_server_in_a_deleted_directory_is_stopped(home: Home, spawn: Spawn) -> None:
    user = await spawn()
    assert await user.says() == "started"
    home.root.rename(home.root.with_name("away"))

    assert await eventually(lambda: not processes(home)) < 5
