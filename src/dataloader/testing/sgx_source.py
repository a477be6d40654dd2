"""The Singapore Exchange on this machine: files of days under keys that count sessions, its list, and its faults."""

from __future__ import annotations

import datetime as dt
import io
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from aiohttp import web

FIRST_DAY, FIRST_KEY = dt.date(2018, 1, 19), 5331
HEADER = "DATE,COM,COM_MM,COM_YY,OPEN,HIGH,LOW,CLOSE,SETTLE,VOLUME,OINT,SERIES"
HTML = b"<!DOCTYPE html><html><body>No Record Found</body></html>"

_LAST_TEXT_DAY = dt.date(2018, 12, 31)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_HOLIDAYS = (
    *((1, 1), (1, 29), (1, 30), (3, 31), (4, 18), (5, 1)),
    *((5, 12), (6, 6), (8, 9), (10, 20), (12, 25)),
)


def is_session(day: dt.date) -> bool:
    """Return whether the exchange trades: on weekdays that are no holidays."""
    return day.weekday() < 5 and (day.month, day.day) not in _HOLIDAYS


def session_text(day: dt.date) -> str:
    """Return a day's file: a series that traded, one that did not, one without settlement."""
    stamp = f"{day:%Y%m%d}"
    price = 60_000 + day.toordinal() % 1_000
    lines = (
        HEADER,
        f"{stamp},NK   ,09,2026,{price},{price + 15},{price - 5}.5,{price},{price},27189,49260,NKU26",
        f"{stamp},1MF  ,07,2026,,,,,486.26,0,0,1MFN26",
        f"{stamp},FEF  ,08,2026,,,,,0,0,12,FEFQ26",
    )
    return "".join(f"{line}\r\n" for line in lines)


def member_name(day: dt.date) -> str:
    """Return what a day's file is called inside of its archive; old ones end otherwise."""
    return f"{day:%m%d}FUT.{'txt' if day <= _LAST_TEXT_DAY else 'csv'}"


def zipped(name: str, text: str | bytes, *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return an archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, text)
    return buffer.getvalue()


def session_archive(day: dt.date) -> bytes:
    """Return what is answered for the key of a day."""
    return zipped(member_name(day), session_text(day))


@dataclass(slots=True)
class SgxStub:
    """The exchange on a free port of this machine for the time of its context, with sessions up to a day.

    Attributes:
        last: The last day that is published.
        listed: How many of the newest keys its list has.
        bodies: What is answered for a key instead of its file.
        statuses: What is answered for a key instead of 200.
        feed_status: What its list is answered with.
        feed_body: What is answered instead of its list, None: the list.
        closed: Whether all that is asked for is answered with a page.
        asked: How often each key was asked for.
        feed_asked: How often its list was.
        days: Session of every key; may be changed at any time.
    """

    last: dt.date
    listed: int = 60
    bodies: dict[int, bytes] = field(default_factory=dict)
    statuses: dict[int, int] = field(default_factory=dict)
    feed_status: int = 200
    feed_body: bytes | None = None
    closed: bool = False
    asked: Counter[int] = field(default_factory=Counter)
    feed_asked: int = 0
    days: dict[int, dt.date] = field(default_factory=dict)
    base_url: str = ""
    _runner: web.AppRunner | None = None

    def __post_init__(self) -> None:
        count = (self.last - FIRST_DAY).days + 1
        sessions = filter(is_session, (FIRST_DAY + dt.timedelta(days=number) for number in range(count)))
        self.days.update(enumerate(sessions, start=FIRST_KEY))

    @property
    def feed_url(self) -> str:
        """Address of its list."""
        return f"{self.base_url}/infofeed/Apps?A=COW_Infopubdtstat_Content&B=DailyDataDownload&S_T=1&C_T=60"

    def key_of(self, day: dt.date) -> int:
        """Return the key of a session."""
        return next(key for key, known in self.days.items() if known == day)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/1.0.0/derivatives-daily/{key}/FUTURE.zip", self._file)
        app.router.add_get("/infofeed/Apps", self._feed)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = site.name
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _file(self, request: web.Request) -> web.Response:
        key = int(request.match_info["key"])
        self.asked[key] += 1
        if key in self.statuses:
            return web.Response(status=self.statuses[key])
        if self.closed or (key not in self.days and key not in self.bodies):
            return _page()
        return web.Response(body=self.bodies.get(key) or session_archive(self.days[key]))

    async def _feed(self, request: web.Request) -> web.Response:
        self.feed_asked += 1
        if self.closed:
            return _page()
        if self.feed_body is not None:
            return web.Response(body=self.feed_body, status=self.feed_status)
        newest = sorted(self.days.items(), reverse=True)[: self.listed]
        items = [
            {"key": str(key), "Trade Date": f"{day.day:02} {_MONTHS[day.month - 1]} {day.year}"} for key, day in newest
        ]
        return web.json_response({"items": items}, status=self.feed_status)


def _page() -> web.Response:
    return web.Response(body=HTML, content_type="text/html")
