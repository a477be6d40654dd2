"""Questions to the Bank of Russia, one method per document."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

from dataloader.connectors.http import HttpClient
from dataloader.exceptions import SourceError
from dataloader.workers.pipelines.cbr.parser import (
    Currency,
    DailyRates,
    DynamicRate,
    Rate,
    parse_currencies,
    parse_daily,
    parse_dynamic,
)

MAX_DOCUMENT_BYTES = 4 * 1024 * 1024
"""Decades of one currency are a quarter of it."""


@dataclass(frozen=True, slots=True)
class CbrSource:
    """The Bank of Russia at a base address."""

    http: HttpClient
    base_url: str
    _codes: dict[str, Rate] = field(default_factory=dict, repr=False)

    async def daily(self, day: dt.date) -> DailyRates:
        """Return the rates in effect on a day; on Sundays, Mondays and holidays those are older ones."""
        document = await self._fetch("XML_daily.asp", date_req=_written(day))
        return parse_daily(document, day)

    async def dynamic(self, cbr_id: str, start: dt.date, end: dt.date) -> tuple[DynamicRate, ...]:
        """Return one currency's rates whose effective day lies in a range, ends included."""
        document = await self._fetch(
            "XML_dynamic.asp", date_req1=_written(start), date_req2=_written(end), VAL_NM_RQ=cbr_id
        )
        return parse_dynamic(document, cbr_id=cbr_id, start=start, end=end)

    async def currencies(self) -> tuple[Currency, ...]:
        """Return all currencies that have or had daily rates, in order of ids."""
        return parse_currencies(await self._fetch("XML_val.asp", d="0"))

    async def codes(self, cbr_id: str, day: dt.date) -> Rate:
        """Return a rate of the currency for its codes and name, which only daily documents have.

        `day` is one it had a rate on. One daily document answers for all the currencies in it.

        Raises:
            SourceError: The daily document lacks the currency.
        """
        if cbr_id not in self._codes:
            document = await self.daily(day)
            self._codes.update((rate.cbr_id, rate) for rate in document.rates)
        if cbr_id not in self._codes:
            raise SourceError(f"{cbr_id} has a rate for {day} but is not among the rates of that day")
        return self._codes[cbr_id]

    async def _fetch(self, document: str, **params: str) -> bytes:
        url = f"{self.base_url}/scripts/{document}"
        return await self.http.fetch(url, params=params, max_bytes=MAX_DOCUMENT_BYTES)


def _written(day: dt.date) -> str:
    return day.strftime("%d/%m/%Y")
