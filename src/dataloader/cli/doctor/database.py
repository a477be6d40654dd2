"""Checks of the database."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime

import asyncpg

from dataloader.cli.doctor import questions
from dataloader.cli.doctor.finding import Report
from dataloader.cli.readiness import NEWEST_MAJOR, OLDEST_MAJOR, granted
from dataloader.config import Settings
from dataloader.exceptions import SchemaVersionError
from dataloader.storage.db import Connection, connect, open_engine, translated
from dataloader.storage.migrate import check_version, head_version

_SKEW_S = 1.0
_NOTIFICATION_S = 3.0
_OWN_CONNECTIONS = 11
"""Two for triggers, seven of the workers for themselves, one to listen and one to notify."""


async def examine_database(report: Report, settings: Settings) -> None:
    """Check the server, the schema in it and the way to it."""
    if not settings.has_database:
        report.fail(
            "database", "none is configured", "set PG_HOST or DL_DB_DSN, or use --embedded (`dataloader up` starts one)"
        )
        return
    if await report.run("database", lambda: _examine_server(report, settings)):
        await report.run("schema", lambda: _examine_schema(report, settings))
        await report.run("privileges", lambda: _examine_privileges(report, settings))
        await report.run("clock", lambda: _examine_clock(report, settings))
        await report.run("pooler", lambda: _examine_pooler(report, settings))
        await report.run("notifications", lambda: _examine_notifications(report, settings))


async def _examine_server(report: Report, settings: Settings) -> None:
    row = await _ask(settings, questions.SERVER)
    where = f"PostgreSQL {row['version'].split()[0]}, database {row['database']}, role {row['role']}"
    judge_server(report, where, major=row["major"], writable=not (row["standby"] or row["read_only"]))
    _judge_isolation(report, row["isolation"])
    judge_connections(report, settings, limit=row["connections"], used=row["connected"])


def judge_server(report: Report, where: str, *, major: int, writable: bool) -> None:
    """Note whether the server is one that we can work with."""
    made_for = f"Dataloader is made for PostgreSQL {OLDEST_MAJOR} to {NEWEST_MAJOR}"
    if major < OLDEST_MAJOR:
        report.fail("database", where, made_for)
    elif not writable:
        report.fail("database", f"{where}: it cannot be written to", "point PG_HOST or DL_DB_DSN to the primary server")
    elif major > NEWEST_MAJOR:
        report.warn("database", where, made_for)
    else:
        report.ok("database", where)


def _judge_isolation(report: Report, isolation: str) -> None:
    if isolation == "read committed":
        report.ok("isolation", isolation)
    else:
        report.fail(
            "isolation",
            f"default_transaction_isolation is {isolation}",
            "alter role … set default_transaction_isolation = 'read committed'",
        )


def judge_connections(report: Report, settings: Settings, *, limit: int, used: int) -> None:
    """Note whether the server has room for a process of ours."""
    wanted = 2 * settings.pg_pool_size + settings.pg_max_overflow + _OWN_CONNECTIONS
    detail = f"{used} of {limit} in use, a process with API and workers takes up to {wanted}"
    if limit - used < wanted:
        report.warn("connections", detail, "raise max_connections, or lower PG_POOL_SIZE and PG_MAX_OVERFLOW")
    else:
        report.ok("connections", detail)


async def _examine_schema(report: Report, settings: Settings) -> None:
    engine = open_engine(settings)
    try:
        with granted():
            await check_version(engine, settings.pg_schema)
    except SchemaVersionError as error:
        report.fail("schema", error.message)
    else:
        report.ok("schema", f"{settings.pg_schema}, version {head_version()}")
    finally:
        await engine.dispose()


async def _examine_privileges(report: Report, settings: Settings) -> None:
    may = await _ask(settings, questions.MAY_CREATE, settings.pg_schema)
    missing = [row["missing"] for row in await _ask_all(settings, questions.PRIVILEGES_MISSING, settings.pg_schema)]
    if not may["usage"]:
        report.fail(
            "privileges",
            f"the role may not use schema {settings.pg_schema}",
            f"grant usage on schema {settings.pg_schema} to it",
        )
    elif missing:
        report.fail(
            "privileges",
            f"missing: {_some(missing)}",
            f"grant select, insert, update, delete on all tables in schema {settings.pg_schema} to it, and execute on"
            " all functions, or let it own the schema",
        )
    elif not (may["create"] or may["exists"]):
        report.fail(
            "privileges",
            f"there is no schema {settings.pg_schema}, and the role may not create one",
            "migrate as a role that may, or create the schema for it beforehand",
        )
    elif not may["temporary"]:
        report.warn(
            "privileges",
            "the role may not create temporary tables: loads that merge will fail",
            "grant temporary on the database to it",
        )
    elif not may["create"]:
        report.warn(
            "privileges",
            f"enough to run; the role may not create in schema {settings.pg_schema}",
            "migrate as a role that may, and create the tables of loads beforehand",
        )
    else:
        report.ok("privileges", f"all that is needed, in schema {settings.pg_schema}")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def _examine_clock(report: Report, settings: Settings) -> None:
    before = datetime.now(UTC)
    row = await _ask(settings, questions.CLOCK)
    after = datetime.now(UTC)
    trip_s = (after - before).total_seconds()
    judge_clock(report, (row["clock_timestamp"] - before).total_seconds() - trip_s / 2, trip_s=trip_s)


def judge_clock(report: Report, skew_s: float, *, trip_s: float) -> None:
    """Note whether the database's clock is `skew_s` ahead, as far as a round trip of `trip_s` lets us know."""
    if abs(skew_s) > _SKEW_S + trip_s / 2:
        report.warn(
            "clock",
            f"the database is {abs(skew_s):.1f} s {'ahead' if skew_s > 0 else 'behind'}",
            "jobs go by the database's clock alone; times in logs will not match, so keep NTP running",
        )
    else:
        report.ok("clock", "agrees with the database's")


async def _examine_pooler(report: Report, settings: Settings) -> None:
    first, second = await connect(settings, purpose="doctor"), await connect(settings, purpose="doctor")
    try:
        with translated():
            pooled = first.get_server_pid() != await first.fetchval(questions.BACKEND)
            await _move_between_backends(first, second)
    except asyncpg.PostgresError as error:
        report.fail(
            "pooler",
            f"prepared statements do not survive it ({str(error).partition(chr(10))[0]})",
            "set DL_PG_STATEMENT_CACHE=0, or max_prepared_statements in PgBouncer 1.21 or newer",
        )
    else:
        report.ok("pooler", "there is one, prepared statements work" if pooled else "none, the connection is direct")
    finally:
        first.terminate()
        second.terminate()


async def _move_between_backends(first: Connection, second: Connection) -> None:
    """Use a prepared statement before and after a pooler in transaction mode had to give us another backend."""
    for number in range(2):
        await first.fetchval(questions.PREPARED, number)
    async with second.transaction():
        await second.fetchval(questions.PREPARED, 2)
        await first.fetchval(questions.PREPARED, 3)


async def _examine_notifications(report: Report, settings: Settings) -> None:
    dsn = settings.dl_listen_dsn.get_secret_value() if settings.dl_listen_dsn else None
    if dsn == "none":
        report.skip("notifications", f"DL_LISTEN_DSN=none: workers poll every {settings.dl_poll_sec:g} s")
        return
    judge_delay(report, settings, await _notification_delay_s(settings, dsn))


def judge_delay(report: Report, settings: Settings, delay_s: float | None) -> None:
    """Note whether notifications arrive; None is for never."""
    if delay_s is None:
        report.warn(
            "notifications",
            f"none arrived within {_NOTIFICATION_S:g} s; workers poll every {settings.dl_poll_sec:g} s",
            "set DL_LISTEN_DSN to a direct connection past the pooler, or to none",
        )
    else:
        report.ok("notifications", f"arrive after {delay_s * 1000:.0f} ms")


async def _notification_delay_s(settings: Settings, dsn: str | None) -> float | None:
    """Send a notification past us; return the seconds it took, None if it never came."""
    channel = f"dl_doctor_{secrets.token_hex(4)}"
    arrived = asyncio.Event()
    listener = await connect(settings, purpose="doctor", dsn=dsn)
    try:
        with translated():
            await listener.add_listener(channel, lambda *_: arrived.set())
        sender = await connect(settings, purpose="doctor")
        try:
            return await _timed(sender, channel, arrived)
        finally:
            sender.terminate()
    finally:
        listener.terminate()


async def _timed(sender: Connection, channel: str, arrived: asyncio.Event) -> float | None:
    loop = asyncio.get_running_loop()
    sent_s = loop.time()
    with translated():
        await sender.execute(questions.NOTIFY, channel, "")
    try:
        async with asyncio.timeout(_NOTIFICATION_S):
            await arrived.wait()
    except TimeoutError:
        return None
    return loop.time() - sent_s


async def _ask(settings: Settings, question: str, *values: object) -> asyncpg.Record:
    (row,) = await _ask_all(settings, question, *values)
    return row


async def _ask_all(settings: Settings, question: str, *values: object) -> list[asyncpg.Record]:
    connection = await connect(settings, purpose="doctor")
    try:
        with translated():
            return await connection.fetch(question, *values)
    finally:
        connection.terminate()
