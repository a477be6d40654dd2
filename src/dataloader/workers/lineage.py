"""Tells a receiver of OpenLineage events what the audit log says, in order, as often as it takes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from yarl import URL

from dataloader.config import Settings
from dataloader.connectors.identifiers import parse_target
from dataloader.connectors.urls import show_url
from dataloader.context import AppContext
from dataloader.domain.lineage import Line, Table, Transition, build
from dataloader.exceptions import DataloaderError
from dataloader.storage.db import Connection, PinnedConnection, is_passing
from dataloader.storage.queries import load_queries
from dataloader.workers.periodic import Periodic

PERIOD_S = 1.0
BATCH = 50
BATCH_S = 10.0
SEND_TIMEOUT_S = 10.0
HOLD_S = 30.0
"""How long another process waits for one that says nothing more; longer than a batch and its last event take."""
PAUSE_MAX_S = 60.0
CLOSE_S = 2.0
_REFUSED = frozenset({400, 413, 422})


class NotDeliveredError(Exception):
    """The receiver did not take an event; it is told again later."""


class Lineage(Periodic):
    """Delivers events from where the last delivery ended; of all processes one does so at a time.

    Args:
        ctx: The process.
        address: A file's path, or an http(s) address.
    """

    name = "lineage"

    def __init__(self, ctx: AppContext, address: str) -> None:
        self._logger = ctx.loggers.app.bind(part=self.name)
        super().__init__(period_s=PERIOD_S, logger=self._logger)
        self._ctx = ctx
        self._address = address
        self._pinned = PinnedConnection(ctx.settings, purpose="lineage")
        self._sql = load_queries(ctx.settings.pg_schema)
        self._database = ""
        self._pause_s = 0.0
        self._not_before_s = 0.0

    async def step(self) -> None:
        """Deliver one batch, unless the receiver is being given a rest."""
        if time.monotonic() < self._not_before_s:
            return
        async with self._pinned.use() as connection:
            mark = await connection.fetchrow(self._sql.lineage_take, self._ctx.process_id, HOLD_S)
            if mark is None or mark["sent_id"] >= mark["safe_id"]:
                return
            self._database = mark["database"]
            try:
                await self._deliver(connection, mark["sent_id"], mark["safe_id"])
            except Exception as error:
                if is_passing(error):
                    raise
                self._rest(error)
                self._logger.exception("lineage could not be told")

    async def close(self) -> None:
        """Let another process go on at once, and close the connection."""
        with suppress(DataloaderError, asyncpg.PostgresError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S), self._pinned.use() as connection:
                await connection.execute(self._sql.lineage_freed, self._ctx.process_id)
        await self._pinned.close()

    async def _deliver(self, connection: Connection, sent: int, safe: int) -> None:
        rows = await connection.fetch(self._sql.lineage_events, sent, safe, BATCH)
        until_s = time.monotonic() + BATCH_S
        begun = sent
        for row in rows:
            if time.monotonic() > until_s or not await self._told(connection, row):
                break
            sent = row["event_id"]
        else:
            sent = safe if len(rows) < BATCH else sent
        if sent > begun:
            await connection.execute(self._sql.lineage_sent, self._ctx.process_id, sent)
            self.wake.set()

    async def _told(self, connection: Connection, row: asyncpg.Record) -> bool:
        """Tell of one change; return whether it needs no more telling."""
        folder: str | None = row["into_folder"]
        table = await self._table(connection, row["into_table"]) if folder is None else Table("file", folder)
        event = build(
            _transition(row), namespace=self._ctx.settings.dl_lineage_namespace, lines=_lines(row), table=table
        )
        if event is None:
            return True
        try:
            await self._send(json.dumps(event))
        except (NotDeliveredError, OSError, TimeoutError, aiohttp.ClientError) as error:
            self._rest(error)
            return False
        if self._pause_s:
            self._logger.info("lineage receiver is back")
        self._pause_s = 0.0
        return True

    def _rest(self, error: BaseException) -> None:
        self._ctx.metrics.lineage("failed")
        if not self._pause_s:
            self._logger.warning("lineage receiver does not take events, they wait", reason=self._reason(error))
        self._pause_s = min(max(self._pause_s * 2, PERIOD_S), PAUSE_MAX_S)
        self._not_before_s = time.monotonic() + self._pause_s

    def _reason(self, error: BaseException) -> str:
        """Say what went wrong without the address, which may hold a secret."""
        return str(error) if isinstance(error, NotDeliveredError) else type(error).__name__

    async def _send(self, text: str) -> None:
        if urlsplit(self._address).scheme not in {"http", "https"}:
            await asyncio.to_thread(_append, Path(self._address), text)
            self._ctx.metrics.lineage("sent")
            return
        token = self._ctx.settings.dl_lineage_token
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        timeout = aiohttp.ClientTimeout(total=SEND_TIMEOUT_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(self._address, data=text, headers=headers, allow_redirects=False) as answer,
        ):
            self._judge(answer.status)

    def _judge(self, status: int) -> None:
        if status in _REFUSED:
            self._ctx.metrics.lineage("refused")
            where = show_url(URL(self._address).with_query(None))
            self._logger.warning("lineage receiver refused an event", status=status, receiver=where)
        elif status >= 300:
            raise NotDeliveredError(f"status {status}")
        else:
            self._ctx.metrics.lineage("sent")

    async def _table(self, connection: Connection, target: str | None) -> Table | None:
        """Return the table that a job's argument `table` names, with its columns as they are now."""
        if target is None:
            return None
        try:
            table = parse_target(target, schema=self._ctx.settings.pg_schema)
        except DataloaderError:
            return None
        columns = await connection.fetch(self._sql.lineage_schema, table.schema, table.name)
        name = f"{self._database}.{table.schema}.{table.name}"
        return Table(_server(self._ctx.settings), name, {row["name"]: row["type"] for row in columns})


def _server(settings: Settings) -> str:
    """Return how the service's database is called as the namespace of its tables; a socket is this machine."""
    if settings.dl_db_dsn is not None:
        parts = urlsplit(settings.dl_db_dsn.get_secret_value())
        return f"postgres://{parts.hostname or 'localhost'}:{parts.port or 5432}"
    host = settings.pg_host or "localhost"
    return f"postgres://{'localhost' if host.startswith('/') else host}:{settings.pg_port}"


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
        file.flush()
        os.fsync(file.fileno())


def _transition(row: asyncpg.Record) -> Transition:
    data: dict[str, object] = json.loads(row["data"])
    error = data.get("error")
    begin, end = row["data_interval_start"], row["data_interval_end"]
    return Transition(
        job_id=row["job_id"],
        task=row["task"],
        at=row["at"],
        kind=row["kind"],
        status=row["status"],
        epoch=row["epoch"],
        was_running=bool(row["was_running"]),
        error=str(error.get("message", "")) if isinstance(error, dict) else None,
        interval=None if begin is None or end is None else (begin, end),
    )


def _lines(row: asyncpg.Record) -> list[Line]:
    return [
        Line(line["source"], line["rows_in"], line["rows_out"], line["bytes"])
        for line in json.loads(row["lines"] or "[]")
    ]
