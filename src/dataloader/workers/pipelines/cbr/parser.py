"""The three documents of the Bank of Russia: a day, a currency over a range, the list of currencies.

Formats: https://www.cbr.ru/development/sxml/. Errors and service pages come with HTTP 200: all is checked.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from decimal import Decimal
from xml.etree.ElementTree import Element

from dataloader.exceptions import SourceError
from dataloader.workers.pipelines.cbr.fields import (
    parse_day,
    parse_root,
    read_amount,
    read_attribute,
    read_text,
)

MIN_RATES = 5
MAX_RATES = 500
MAX_LEAD = dt.timedelta(days=1)
"""In the afternoon the answer may already be tomorrow's."""

MAX_LAG = dt.timedelta(days=31)
"""How old a rate may be that still holds; the longest holidays take two weeks."""

_CHAR_CODE = re.compile(r"[A-Z0-9]{3}")
_NUM_CODE = re.compile(r"[0-9]{1,3}")
_CBR_ID = re.compile(r"[A-Z0-9]{2,12}")


@dataclass(frozen=True, slots=True)
class Rate:
    """One currency on one effective day, named as the columns of the target table."""

    rate_date: dt.date
    char_code: str
    num_code: str
    cbr_id: str
    nominal: int
    name: str
    value: Decimal
    unit_rate: Decimal


@dataclass(frozen=True, slots=True)
class DailyRates:
    """The rates in effect on a day; `rate_date` is the day they are for, which need not be the one asked."""

    rate_date: dt.date
    rates: tuple[Rate, ...]


@dataclass(frozen=True, slots=True)
class DynamicRate:
    """One day of one currency; the document names neither its code nor its name."""

    rate_date: dt.date
    nominal: int
    value: Decimal
    unit_rate: Decimal


@dataclass(frozen=True, slots=True)
class Currency:
    """An entry of the list of currencies; several may share a parent after a redenomination."""

    cbr_id: str
    parent_id: str
    name: str


def parse_daily(document: bytes, asked: dt.date) -> DailyRates:
    """Read the rates of a day.

    Raises:
        SourceError: It is incomplete, for a day too far from the one asked, or an error in disguise.
        PermanentError: It brings a DTD, or says that the question was wrong.
    """
    root = parse_root(document, "ValCurs")
    rate_date = parse_day(read_attribute(root, "Date"))
    if not asked - MAX_LAG <= rate_date <= asked + MAX_LEAD:
        raise SourceError(f"asked for {asked}, the Bank of Russia answered with rates for {rate_date}")
    items = root.findall("Valute")
    if not MIN_RATES <= len(items) <= MAX_RATES:
        raise SourceError(f"{len(items)} rates for {rate_date} is not a plausible number")
    return DailyRates(rate_date, tuple(_read_rate(item, rate_date) for item in items))


def parse_dynamic(document: bytes, *, cbr_id: str, start: dt.date, end: dt.date) -> tuple[DynamicRate, ...]:
    """Read the rates of one currency over a range, in order of days; none is a valid answer.

    Raises:
        SourceError: It is for another currency or range, or an error in disguise.
        PermanentError: It brings a DTD, or says that the question was wrong.
    """
    root = parse_root(document, "ValCurs")
    if read_attribute(root, "ID") != cbr_id:
        raise SourceError(f"asked for {cbr_id}, the Bank of Russia answered with {root.get('ID', '')[:20]}")
    rates = sorted((_read_record(item) for item in root.findall("Record")), key=lambda rate: rate.rate_date)
    if rates and not start <= rates[0].rate_date <= rates[-1].rate_date <= end:
        raise SourceError(
            f"asked for {cbr_id} from {start} to {end}, got {rates[0].rate_date} to {rates[-1].rate_date}"
        )
    return tuple(rates)


def parse_currencies(document: bytes) -> tuple[Currency, ...]:
    """Read the list of currencies, in order of ids.

    Raises:
        SourceError: It is empty or an error in disguise.
        PermanentError: It brings a DTD.
    """
    items = parse_root(document, "Valuta").findall("Item")
    if not items:
        raise SourceError("the list of currencies is empty")
    return tuple(sorted((_read_currency(item) for item in items), key=lambda currency: currency.cbr_id))


def _read_rate(item: Element, rate_date: dt.date) -> Rate:
    nominal, value, unit_rate = read_amount(item)
    return Rate(
        rate_date=rate_date,
        char_code=_match(_CHAR_CODE, read_text(item, "CharCode")),
        num_code=_match(_NUM_CODE, read_text(item, "NumCode")),
        cbr_id=_match(_CBR_ID, read_attribute(item, "ID")),
        nominal=nominal,
        name=read_text(item, "Name"),
        value=value,
        unit_rate=unit_rate,
    )


def _read_record(item: Element) -> DynamicRate:
    return DynamicRate(parse_day(read_attribute(item, "Date")), *read_amount(item))


def _read_currency(item: Element) -> Currency:
    cbr_id = _match(_CBR_ID, read_attribute(item, "ID"))
    return Currency(cbr_id, _match(_CBR_ID, read_text(item, "ParentCode")), read_text(item, "Name"))


def _match(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise SourceError(f"{text[:40]!r} is not a code of a currency")
    return text
