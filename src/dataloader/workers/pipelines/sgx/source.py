"""Questions to the exchange: a file by its key, and the list of the newest keys."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import re
from dataclasses import dataclass, field

from dataloader.connectors.http import HttpClient
from dataloader.exceptions import PermanentError, SourceError
from dataloader.workers.pipelines.sgx.archive import MAX_ARCHIVE_BYTES
from dataloader.workers.pipelines.sgx.parser import Session, parse_session

_KEPT = 8
_NOT_FOUND = 404
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = re.compile(r"(\d{1,2}) ([A-Z][a-z]{2}) (\d{4})", re.ASCII)
_KEY = re.compile(r"\d{1,9}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SgxSource:
    """The exchange at its addresses."""

    http: HttpClient
    base_url: str
    feed_url: str
    _kept: dict[int, Session] = field(default_factory=dict, repr=False)

    async def session(self, key: int) -> Session | None:
        """Return the session that a key stands for, None if there is no such file; one that was kept is handed out.

        Raises:
            SourceError: The file cannot be used.
        """
        return self._kept.pop(key, None) or await self.fetch(key)

    def keep(self, key: int, session: Session) -> None:
        """Keep a session that was met before its turn, so that it is not fetched again; few, the nearest ones."""
        self._kept[key] = session
        if len(self._kept) > _KEPT:
            del self._kept[max(self._kept)]

    async def fetch(self, key: int) -> Session | None:
        """Return what the exchange answers now; see `session`."""
        url = f"{self.base_url}/1.0.0/derivatives-daily/{key}/FUTURE.zip"
        try:
            document = await self.http.fetch(url, max_bytes=MAX_ARCHIVE_BYTES)
        except PermanentError as error:
            if error.details.get("status") == _NOT_FOUND:
                return None
            raise
        try:
            return await asyncio.to_thread(parse_session, document)
        except SourceError as error:
            raise SourceError(f"key {key}: {error.message}") from None

    async def newest(self) -> dict[dt.date, int]:
        """Return the newest days and their keys, as the exchange lists them.

        Raises:
            SourceError: The list cannot be read.
        """
        document = await self.http.fetch(self.feed_url)
        try:
            items = json.loads(document)["items"]
            return {_parse_day(str(item["Trade Date"])): _parse_key(str(item["key"])) for item in items}
        except (ValueError, KeyError, TypeError, RecursionError):
            raise SourceError("the exchange's list of days cannot be read") from None


def _parse_day(text: str) -> dt.date:
    """Read a day written as 16 Jul 2026; months are English whatever this machine speaks."""
    match = _DAY.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return dt.date(int(match[3]), _MONTHS.index(match[2]) + 1, int(match[1]))


def _parse_key(text: str) -> int:
    if not _KEY.fullmatch(text):
        raise ValueError(text)
    return int(text)
