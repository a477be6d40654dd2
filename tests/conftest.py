"""A real PostgreSQL for every test: one server per run, one migrated template per process, one clone per test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode, urlsplit, urlunsplit

import asyncpg
import hypothesis
import pytest

from dataloader.config import Settings, load_settings
from dataloader.embedded import EmbeddedServer
from tests.memory import make_folder

_FOLDER = "DL_TEST_FOLDER"
_KEPT = {"DL_TEST_DSN", "DL_TEST_BINDIR", "DL_TEST_POOLER", _FOLDER, "DL_CHAOS", "DL_CHAOS_SEED"}
_FOREIGN = ("PG", "DL_", "APP_", "LOG_", "METRIC_", "AUDIT_LOG_", "WORKERS_JSON", "DEBUG", "LOCAL")
_UNSAFE_BUT_FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "log_line_prefix": "%m [%p] %d ",
}
_FAST_TIMERS: dict[str, object] = {
    "dl_heartbeat_sec": 0.5,
    "dl_default_lease_ttl_sec": 3,
    "dl_reaper_period_sec": 0.5,
    "dl_poll_sec": 0.5,
    "dl_cancel_grace_sec": 1,
    "dl_shutdown_grace_sec": 5,
    "dl_claim_backoff_sec": 2,
}


def pytest_configure(config: pytest.Config) -> None:
    """Hide the developer's own settings from the tests; what is slow is the machine, not the drawing of examples."""
    hypothesis.settings.register_profile(
        "shared", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("shared")
    for name in set(os.environ) - _KEPT:
        if name.startswith(_FOREIGN):
            del os.environ[name]
    if not {_FOLDER, "DL_TEST_DSN"} & os.environ.keys() and (folder := make_folder()):
        os.environ[_FOLDER] = str(folder)
        config.add_cleanup(partial(shutil.rmtree, folder, ignore_errors=True))


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer | None]:
    """The server of this run, which all processes of pytest-xdist share; None if `DL_TEST_DSN` names another."""
    if "DL_TEST_DSN" in os.environ:
        yield None
        return
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    bindir = os.environ.get("DL_TEST_BINDIR")
    server = EmbeddedServer(
        Path(os.environ.get(_FOLDER, shared)) / "postgres",
        bindir=Path(bindir) if bindir else None,
        database="postgres",
        settings=_UNSAFE_BUT_FAST,
    )
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture(scope="session")
def server(embedded: EmbeddedServer | None) -> dict[str, object]:
    """Settings that lead to a server where databases may be created."""
    return embedded.overrides() if embedded else {"dl_db_dsn": os.environ["DL_TEST_DSN"]}


@pytest.fixture(scope="session")
def server_log(embedded: EmbeddedServer | None) -> Path | None:
    """The server's log file, None if it lies elsewhere."""
    return embedded.log if embedded else None


@pytest.fixture(scope="session")
def template(server: dict[str, object]) -> Iterator[str]:
    """Name of a migrated database that nobody is connected to."""
    from dataloader.storage.migrate import migrate  # noqa: PLC0415 - tests without a schema run without it

    with _database(server, "create database {}") as name:
        asyncio.run(migrate(_settings(server, name)))
        yield name


@pytest.fixture
def database(server: dict[str, object], template: str) -> Iterator[str]:
    """Name of a migrated database of this test's own."""
    with _database(server, f'create database {{}} template "{template}"') as name:
        yield name


@pytest.fixture
def make_settings(server: dict[str, object], database: str) -> Callable[..., Settings]:
    """Build settings for this test's database with fast timers; keyword arguments win.

    With `DL_TEST_POOLER`, the address of a PgBouncer in transaction mode, the service reaches the database through it
    and listens on a direct connection.
    """
    direct = _settings(server, database)
    if pooler := os.environ.get("DL_TEST_POOLER"):
        through = {"dl_db_dsn": _in_database(pooler, database), "dl_listen_dsn": direct_dsn(direct)}
        return lambda **overrides: _settings(server, database, **through | {"dl_pg_statement_cache": 0} | overrides)
    return lambda **overrides: _settings(server, database, **overrides)


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Settings for this test's database with fast timers."""
    return make_settings()


@pytest.fixture
async def pg(server: dict[str, object], database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A direct connection to this test's database."""
    connection = await _connect(_settings(server, database))
    yield connection
    await connection.close()


@contextmanager
def _database(server: dict[str, object], create: str) -> Iterator[str]:
    name = f"dl_{secrets.token_hex(6)}"
    admin = load_settings(_env_file=None, **server)
    asyncio.run(_execute(admin, create.format(f'"{name}"')))
    try:
        yield name
    finally:
        asyncio.run(_execute(admin, f'drop database "{name}" with (force)'))


def _settings(server: dict[str, object], database: str, **overrides: object) -> Settings:
    where = server | {"pg_database": database}
    if dsn := server["dl_db_dsn"]:
        where["dl_db_dsn"] = _in_database(str(dsn), database)
    return load_settings(_env_file=None, **where | _FAST_TIMERS | overrides)


def _in_database(dsn: str, database: str) -> str:
    """Return a DSN that leads to another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{database}"))


def direct_dsn(settings: Settings) -> str:
    """Return the address that settings lead to as a DSN."""
    if settings.dl_db_dsn:
        return settings.dl_db_dsn.get_secret_value()
    place = urlencode({"host": settings.pg_host, "port": settings.pg_port})
    return f"postgresql://{settings.pg_user}@/{settings.pg_database}?{place}"


async def _execute(settings: Settings, statement: str) -> None:
    connection = await _connect(settings)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _connect(settings: Settings) -> asyncpg.Connection[asyncpg.Record]:
    if settings.dl_db_dsn:
        return await asyncpg.connect(settings.dl_db_dsn.get_secret_value())
    return await asyncpg.connect(
        host=settings.pg_host,
        port=settings.pg_port,
        user=settings.pg_user,
        password=settings.pg_password.get_secret_value(),
        database=settings.pg_database,
    )
