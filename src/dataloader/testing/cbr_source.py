"""The Bank of Russia on this machine: its three documents for any day, and its faults on demand."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from types import TracebackType
from typing import Self, assert_never

from aiohttp import web

FIRST_UNIT_RATE_DAY = dt.date(2023, 1, 1)
_SATURDAY, _SUNDAY = 5, 6


class Fault(StrEnum):
    """What the source does instead of answering."""

    ERROR_TEXT = "error text"
    HTML = "html"
    EMPTY = "empty"
    NO_RATES = "no rates"
    FORBIDDEN = "403"
    UNAVAILABLE = "503"
    SLOW = "slow"


@dataclass(frozen=True, slots=True)
class StubCurrency:
    """A currency; `base` is its rate per nominal in ten-thousandths of a rouble."""

    cbr_id: str
    num_code: str
    char_code: str
    nominal: int
    name: str
    base: int

    def rate(self, day: dt.date) -> int:
        """Return the rate of a day in ten-thousandths: it moves a little every day and repeats after 97."""
        return self.base + day.toordinal() % 97


CURRENCIES = (
    StubCurrency("R01010", "036", "AUD", 1, "Австралийский доллар", 536_900),
    StubCurrency("R01020A", "944", "AZN", 1, "Азербайджанский манат", 502_900),
    StubCurrency("R01060", "051", "AMD", 100, "Армянских драмов", 218_300),
    StubCurrency("R01235", "840", "USD", 1, "Доллар США", 854_900),
    StubCurrency("R01239", "978", "EUR", 1, "Евро", 924_800),
    StubCurrency("R01810", "710", "ZAR", 10, "Рэндов", 463_500),
)


def effective_day(day: dt.date) -> dt.date:
    """Return the day whose rates hold on `day`: Sundays and Mondays repeat Saturday's."""
    return day - dt.timedelta(days={_SUNDAY: 1, 0: 2}.get(day.weekday(), 0))


def daily_document(day: dt.date, currencies: tuple[StubCurrency, ...] = CURRENCIES) -> bytes:
    """Return what XML_daily answers for `day`."""
    effective = effective_day(day)
    items = "".join(_valute(currency, effective) for currency in currencies)
    return _encode(f'<ValCurs Date="{effective:%d.%m.%Y}" name="Foreign Currency Market">{items}</ValCurs>')


def dynamic_document(currency: StubCurrency, start: dt.date, end: dt.date) -> bytes:
    """Return what XML_dynamic answers: days with a rate of their own."""
    days = (start + dt.timedelta(days=number) for number in range((end - start).days + 1))
    items = "".join(
        f'<Record Date="{day:%d.%m.%Y}" Id="{currency.cbr_id}">{_amount(currency, day)}</Record>'
        for day in days
        if effective_day(day) == day
    )
    return _encode(
        f'<ValCurs ID="{currency.cbr_id}" DateRange1="{start:%d.%m.%Y}" DateRange2="{end:%d.%m.%Y}" '
        f'name="Foreign Currency Market Dynamic">{items}</ValCurs>'
    )


def currencies_document(currencies: tuple[StubCurrency, ...] = CURRENCIES) -> bytes:
    """Return what XML_val answers; parent codes are padded."""
    items = "".join(
        f'<Item ID="{currency.cbr_id}"><Name>{currency.name}</Name><EngName>{currency.char_code}</EngName>'
        f"<Nominal>{currency.nominal}</Nominal><ParentCode>{currency.cbr_id[:6]:<10}</ParentCode></Item>"
        for currency in currencies
    )
    return _encode(f'<Valuta name="Foreign Currency Market Lib">{items}</Valuta>')


def _valute(currency: StubCurrency, day: dt.date) -> str:
    return (
        f'<Valute ID="{currency.cbr_id}"><NumCode>{currency.num_code}</NumCode>'
        f"<CharCode>{currency.char_code}</CharCode><Nominal>{currency.nominal}</Nominal>"
        f"<Name>{currency.name}</Name>{_value(currency, day)}</Valute>"
    )


def _amount(currency: StubCurrency, day: dt.date) -> str:
    return f"<Nominal>{currency.nominal}</Nominal>{_value(currency, day)}"


def _value(currency: StubCurrency, day: dt.date) -> str:
    whole, part = divmod(currency.rate(day), 10_000)
    value = f"<Value>{whole},{part:04}</Value>"
    if day < FIRST_UNIT_RATE_DAY:
        return value
    unit = format(Decimal(currency.rate(day)) / 10_000 / currency.nominal, "f").replace(".", ",")
    return f"{value}<VunitRate>{unit}</VunitRate>"


def _encode(body: str) -> bytes:
    return f'<?xml version="1.0" encoding="windows-1251"?>{body}'.encode("cp1251")


ERROR_DOCUMENT = _encode("<ValCurs>Error in parameters</ValCurs>")
HTML_PAGE = "<!DOCTYPE html><html><body>Ведутся технические работы</body></html>"


@dataclass(slots=True)
class CbrStub:
    """A server on a free port of this machine for the time of its context.

    Attributes:
        currencies: What it knows; may be changed at any time.
        faults: Taken one per request, before any answer.
        faults_by_day: What every request of a day meets in XML_daily.
        asked: Path and query of every request, in order.
        user_agents: As sent, in order.
        arrived: Set by every request.
        resume: Slow answers wait for it.
        delay_s: Seconds that every answer takes.
    """

    currencies: tuple[StubCurrency, ...] = CURRENCIES
    faults: deque[Fault] = field(default_factory=deque)
    faults_by_day: dict[dt.date, Fault] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    user_agents: list[str] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    resume: asyncio.Event = field(default_factory=asyncio.Event)
    base_url: str = ""
    delay_s: float = 0.0
    _runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/scripts/XML_daily.asp", self._daily)
        app.router.add_get("/scripts/XML_dynamic.asp", self._dynamic)
        app.router.add_get("/scripts/XML_val.asp", self._val)
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.base_url = site.name
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resume.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _daily(self, request: web.Request) -> web.StreamResponse:
        day = _parse(request.query.get("date_req", ""))
        fault = await self._next_fault(request, day)
        if fault is not None:
            return _faulty(fault)
        return _xml(daily_document(day, self.currencies) if day else ERROR_DOCUMENT)

    async def _dynamic(self, request: web.Request) -> web.StreamResponse:
        fault = await self._next_fault(request, None)
        if fault is not None:
            return _faulty(fault)
        start, end = (_parse(request.query.get(name, "")) for name in ("date_req1", "date_req2"))
        known = {currency.cbr_id: currency for currency in self.currencies}
        currency = known.get(request.query.get("VAL_NM_RQ", ""))
        return _xml(dynamic_document(currency, start, end) if currency and start and end else ERROR_DOCUMENT)

    async def _val(self, request: web.Request) -> web.StreamResponse:
        fault = await self._next_fault(request, None)
        return _faulty(fault) if fault is not None else _xml(currencies_document(self.currencies))

    async def _next_fault(self, request: web.Request, day: dt.date | None) -> Fault | None:
        """Account for a request and return what goes wrong with it; a slow one waits here, then answers."""
        self.asked.append(request.path_qs)
        self.user_agents.append(request.headers.get("User-Agent", ""))
        self.arrived.set()
        fault = self.faults.popleft() if self.faults else self.faults_by_day.get(day) if day else None
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if fault is not Fault.SLOW:
            return fault
        await self.resume.wait()
        return None


def _parse(text: str) -> dt.date | None:
    try:
        return dt.datetime.strptime(text, "%d/%m/%Y").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None


def _xml(document: bytes) -> web.Response:
    return web.Response(body=document, headers={"Content-Type": "application/xml; charset=windows-1251"})


def _faulty(fault: Fault) -> web.Response:
    match fault:
        case Fault.ERROR_TEXT:
            return _xml(ERROR_DOCUMENT)
        case Fault.HTML:
            return web.Response(text=HTML_PAGE, content_type="text/html")
        case Fault.EMPTY | Fault.SLOW:
            return _xml(b"")
        case Fault.NO_RATES:
            return _xml(_encode('<ValCurs Date="01.04.2025" name="Foreign Currency Market"></ValCurs>'))
        case Fault.FORBIDDEN:
            return web.Response(status=403)
        case Fault.UNAVAILABLE:
            return web.Response(status=503)
    assert_never(fault)
