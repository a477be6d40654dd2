"""Tells a receiver of OpenLineage events what the audit log says, in order, as often as it takes."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import asyncpg
from yarl import URL

from dataloader.connectors.identifiers import TableName, parse_table
from dataloader.connectors.urls import show_url
from dataloader.context import AppContext
from dataloader.domain.lineage import Line, Transition, build
from dataloader.exceptions import DataloaderError, InvalidError
from dataloader.storage.db import Connection, PinnedConnection, own_database
from dataloader.storage.queries import load_queries
from dataloader.workers.periodic import Periodic

BATCH = 50
PAUSE_MAX_S = 60.0
CLOSE_S = 2.0
_REFUSED = frozenset({400, 413, 422})


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a delivery waits for what.

    Attributes:
        period_s: Between two looks for events, and the first pause after a receiver that did not take one.
        send_s: For the answer to an event.
        note_s: How long events are told before that is noted.
        hold_s: How long another process waits for one that notes nothing more; longer than `note_s` and an event take.
    """

    period_s: float = 1.0
    send_s: float = 6.0
    note_s: float = 3.0
    hold_s: float = 12.0


DEFAULT = Timing()


class NotDeliveredError(Exception):
    """The receiver did not take an event; it is told again later."""


class Lineage(Periodic):
    """Delivers events from where the last delivery ended; of all processes one does so at a time.

    Args:
        ctx: The process.
        address: An http or https address, or a file's path.
        timing: How long it waits for what.
    """

    name = "lineage"

    def __init__(self, ctx: AppContext, address: str, *, timing: Timing = DEFAULT) -> None:
        self._logger = ctx.loggers.app.bind(part=self.name)
        super().__init__(period_s=timing.period_s, logger=self._logger)
        self._ctx = ctx
        self._address = address
        self._timing = timing
        self._path = None if urlsplit(address).scheme else Path(address)
        self._pinned = PinnedConnection(ctx.settings, purpose="lineage")
        self._sql = load_queries(ctx.settings.pg_schema)
        self._database = own_database(ctx.settings)
        self._session: aiohttp.ClientSession | None = None
        self._pause_s = 0.0
        self._not_before_s = 0.0

    async def step(self) -> None:
        """Deliver one batch, unless the receiver is being given a rest."""
        if time.monotonic() < self._not_before_s:
            return
        async with self._pinned.use() as connection:
            mark = await connection.fetchrow(self._sql.lineage_take, self._ctx.process_id, self._timing.hold_s)
            if mark is not None and mark["sent_id"] < mark["safe_id"]:
                await self._deliver(connection, mark["sent_id"], mark["safe_id"])

    async def close(self) -> None:
        """Let another process go on at once, and close the connection."""
        with suppress(DataloaderError, asyncpg.PostgresError, OSError, TimeoutError):
            async with asyncio.timeout(CLOSE_S), self._pinned.use() as connection:
                await connection.execute(self._sql.lineage_freed, self._ctx.process_id)
        await self._pinned.close()
        if self._session is not None:
            await self._session.close()

    async def _deliver(self, connection: Connection, sent: int, safe: int) -> None:
        """Tell of the next changes, and note from time to time how far it has come, as long as that is ours to do."""
        rows = await connection.fetch(self._sql.lineage_events, sent, safe, BATCH)
        noted, noted_s = sent, time.monotonic()
        for row in rows:
            if time.monotonic() > noted_s + self._timing.note_s:
                if not await self._note(connection, sent):
                    return
                noted, noted_s = sent, time.monotonic()
            if not await self._told(connection, row):
                break
            sent = row["event_id"]
        else:
            sent = safe if len(rows) < BATCH else sent
        if sent > noted and await self._note(connection, sent):
            self.wake.set()

    async def _note(self, connection: Connection, sent: int) -> bool:
        """Return whether the delivery is still ours; what another one tells meanwhile is told twice.

        A file is on the disk before its events count as told.
        """
        if self._path is not None:
            try:
                await asyncio.to_thread(_sync, self._path)
            except OSError as error:
                self._rest(error)
                return False
        noted = await connection.fetchval(self._sql.lineage_sent, self._ctx.process_id, sent, self._timing.hold_s)
        return noted is not None

    async def _told(self, connection: Connection, row: asyncpg.Record) -> bool:
        """Tell of one change; return whether it needs no more telling."""
        lines = _lines(row)
        columns = await self._columns(connection, lines)
        namespace = self._ctx.settings.dl_lineage_namespace
        try:
            event = build(_transition(row), namespace=namespace, lines=lines, columns=columns)
        except Exception:
            self._ctx.metrics.lineage("refused")
            self._logger.exception("an event of lineage cannot be put together and is passed over", id=row["event_id"])
            return True
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
        self._pause_s = min(max(self._pause_s * 2, self._period_s), PAUSE_MAX_S)
        self._not_before_s = time.monotonic() + self._pause_s

    def _reason(self, error: BaseException) -> str:
        """Say what went wrong without the address, which may hold a secret."""
        return str(error) if isinstance(error, NotDeliveredError) else type(error).__name__

    async def _send(self, text: str) -> None:
        if self._path is not None:
            await asyncio.to_thread(_append, self._path, text)
            self._ctx.metrics.lineage("sent")
            return
        token = self._ctx.settings.dl_lineage_token
        headers = {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        if self._session is None:
            self._session = aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(total=self._timing.send_s)
            )
        async with self._session.post(self._address, data=text, headers=headers, allow_redirects=False) as answer:
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

    async def _columns(self, connection: Connection, lines: Sequence[Line]) -> dict[str, dict[str, str]]:
        """Return the columns, as they are now, of those tables of the service's database that a run's ledger names."""
        found = {}
        for address in {address for line in lines for address in (line.source or "", *line.targets)}:
            inside = self._database.inside(address)
            table = None if inside is None else _parsed(inside)
            if table is not None:
                rows = await connection.fetch(self._sql.lineage_schema, table.schema, table.name)
                found[address] = {row["name"]: row["type"] for row in rows}
        return found


def _parsed(text: str) -> TableName | None:
    try:
        return parse_table(text, schema="")
    except InvalidError:
        return None


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def _sync(path: Path) -> None:
    with path.open("a") as file:
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
        Line(line["source"], tuple(line["targets"]), line["rows_in"], line["rows_out"], line["bytes"])
        for line in json.loads(row["lines"] or "[]")
    ]
