"""What cannot work ends with one sentence that names the setting, and no traceback."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dataloader.config import Settings
from dataloader.storage.db import Connection
from tests.cli.shell import Ended, environment, free_port, run

_SSL_REQUEST_BYTES = 8
BAD_SETTINGS = [
    ({"workers_json": "[{"}, "WORKERS_JSON"),
    ({"workers_json": '[{"queue": "noop", "concurrency": 0}]'}, "WORKERS_JSON (at 0.concurrency)"),
    ({"app_port": "eighty"}, "APP_PORT"),
    ({"app_host": "0.0.0.0"}, "DL_ALLOW_ANONYMOUS"),  # noqa: S104 - it is refused
    ({"dl_default_lease_ttl_sec": 1, "dl_heartbeat_sec": 1}, "DL_DEFAULT_LEASE_TTL_SEC"),
    ({"dl_db_dsn": "mysql://x"}, "DL_DB_DSN"),
]


def check_sentence(ended: Ended, *words: str, code: int = 2) -> None:
    (line,) = [line for line in ended.err.splitlines() if not line.startswith("{")]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert (ended.code, ended.out) == (code, "")


@pytest.mark.parametrize(("bad", "name"), BAD_SETTINGS)
async def test_a_wrong_setting_is_named(tmp_path: Path, bad: dict[str, object], name: str) -> None:
    check_sentence(await run(tmp_path, env=environment(None, **{"pg_host": "127.0.0.1"} | bad)), name)


async def test_without_a_database_both_ways_to_one_are_named(tmp_path: Path) -> None:
    for command in ((), ("worker",), ("api",), ("migrate",)):
        check_sentence(await run(tmp_path, *command, env=environment()), "PG_HOST", "DL_DB_DSN", "dataloader up")


async def test_a_module_that_cannot_be_loaded_is_named(tmp_path: Path, settings: Settings) -> None:
    env = environment(settings, dl_pipelines="no_such_module", app_port=free_port())
    check_sentence(await run(tmp_path, env=env), "DL_PIPELINES", "no_such_module")


@pytest.mark.parametrize("variable", ["LOG_PATH", "METRIC_PATH", "AUDIT_LOG_PATH"])
async def test_a_log_that_cannot_be_written_is_named(tmp_path: Path, settings: Settings, variable: str) -> None:
    (tmp_path / "file").touch()
    env = environment(settings, app_port=free_port()) | {variable: str(tmp_path / "file" / "logs")}
    check_sentence(await run(tmp_path, env=env), variable)


async def test_a_taken_port_is_named(tmp_path: Path, settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        check_sentence(await run(tmp_path, env=environment(settings, app_port=port)), f"APP_PORT={port}")


async def test_a_missing_database_is_named(
    tmp_path: Path, make_settings: Callable[..., Settings], server: dict[str, object]
) -> None:
    if server["dl_db_dsn"]:
        pytest.skip("the database is part of the DSN")
    check_sentence(await run(tmp_path, env=environment(make_settings(pg_database="nowhere"))), "PG_DATABASE", "nowhere")


@asynccontextmanager
async def refusing_server(code: str, message: str) -> AsyncIterator[int]:
    """A PostgreSQL that refuses every login (Frontend/Backend Protocol, ErrorResponse)."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(_SSL_REQUEST_BYTES)
        writer.write(b"N")
        await reader.readexactly(int.from_bytes(await reader.readexactly(4)) - 4)
        fields = f"SFATAL\0VFATAL\0C{code}\0M{message}\0\0".encode()
        writer.write(b"E" + (len(fields) + 4).to_bytes(4) + fields)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_wrong_password_ends_the_process(tmp_path: Path) -> None:
    async with refusing_server("28P01", "password authentication failed") as port:
        env = environment(pg_host="127.0.0.1", pg_port=port, pg_password="hunter2", app_port=free_port())
        ended = await run(tmp_path, env=env)
    check_sentence(ended, "PG_PASSWORD", "password authentication failed")
    assert "hunter2" not in ended.err


async def test_a_worker_without_any_task_says_so(tmp_path: Path, settings: Settings) -> None:
    env = environment(settings, workers_json=json.dumps([{"queue": "nobodys"}]))
    ended = await run(tmp_path, "worker", env=env)
    check_sentence(ended, "WORKERS_JSON", "nobodys", "DL_PIPELINES")


async def test_a_database_without_schema_says_what_to_do(tmp_path: Path, settings: Settings, pg: Connection) -> None:
    await pg.execute("create schema empty")
    env = environment(settings, pg_schema="empty", app_port=free_port())
    check_sentence(await run(tmp_path, env=env), "dataloader migrate", "DL_AUTO_MIGRATE", code=1)


async def test_a_role_without_privileges_is_a_sentence(
    tmp_path: Path, make_settings: Callable[..., Settings], pg: Connection
) -> None:
    if make_settings().dl_db_dsn:
        pytest.skip("the role is part of the DSN")
    role = f"poor_{await pg.fetchval('select current_database()')}"
    await pg.execute(f'create role "{role}" login')
    try:
        env = environment(make_settings(pg_user=role), app_port=free_port())
        check_sentence(await run(tmp_path, env=env), "PG_USER", "permission denied")
    finally:
        await pg.execute(f'drop role "{role}"')


async def test_migrate_brings_it(tmp_path: Path, settings: Settings, pg: Connection) -> None:
    ended = await run(tmp_path, "migrate", "--schema", "fresh", env=environment(settings))
    assert (ended.code, ended.err) == (0, "")
    assert "fresh" in ended.out
    assert await pg.fetchval("select count(*) from fresh.dl_jobs") == 0


async def test_migrate_prints_the_schema_without_a_database(tmp_path: Path) -> None:
    ended = await run(tmp_path, "migrate", "--sql", "--schema", "etl", env=environment())
    assert (ended.code, ended.err) == (0, "")
    assert '"etl".dl_jobs' in ended.out or "etl.dl_jobs" in ended.out
