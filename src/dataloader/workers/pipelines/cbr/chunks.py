"""How a load is cut: into days, or into currencies and years; each chunk says where to go on after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import date

from dataloader.workers.pipelines.cbr.args import CbrRatesArgs
from dataloader.workers.pipelines.cbr.parser import Rate
from dataloader.workers.pipelines.cbr.source import CbrSource

Checkpoint = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows to store together.

    Attributes:
        rates: May be none: a currency without rates in a year.
        checkpoint: What to go on after.
        done: Chunks finished with this one.
        total: Chunks in all.
        unit: What is counted.
    """

    rates: tuple[Rate, ...]
    checkpoint: dict[str, object]
    done: int
    total: int
    unit: str


async def by_day(args: CbrRatesArgs, source: CbrSource, after: Checkpoint) -> AsyncGenerator[Chunk, None]:
    """Yield a chunk per day asked for; days without a rate of their own repeat an older day's rows."""
    days, last = args.days, str(after.get("day", ""))
    for done, day in enumerate(days, start=1):
        if day.isoformat() > last:
            daily = await source.daily(day)
            yield Chunk(daily.rates, {"day": day.isoformat()}, done, len(days), "days")


async def by_currency(args: CbrRatesArgs, source: CbrSource, after: Checkpoint) -> AsyncGenerator[Chunk, None]:
    """Yield a chunk per currency and year: far fewer requests than days for a range of years.

    The list of currencies says what to ask for. Codes and names stand in daily documents only: they are taken
    from the one of the first day on which a currency not met before has a rate.
    """
    years = args.years
    currencies = await source.currencies()
    places = [(currency.cbr_id, start, end) for currency in currencies for start, end in years]
    last = (str(after.get("currency", "")), str(after.get("year", "")))
    for done, (cbr_id, start, end) in enumerate(places, start=1):
        if (cbr_id, str(start.year)) > last:
            rates = await _rates_of(source, cbr_id, start, end)
            yield Chunk(rates, {"currency": cbr_id, "year": start.year}, done, len(places), "currency years")


async def _rates_of(source: CbrSource, cbr_id: str, start: date, end: date) -> tuple[Rate, ...]:
    records = await source.dynamic(cbr_id, start, end)
    if not records:
        return ()
    known = await source.codes(cbr_id, records[0].rate_date)
    return tuple(
        replace(
            known,
            rate_date=record.rate_date,
            nominal=record.nominal,
            value=record.value,
            unit_rate=record.unit_rate,
        )
        for record in records
    )
