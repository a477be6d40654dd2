"""How a load of rates is cut and where it goes on, against a stand-in of the Bank of Russia."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dataloader.connectors.http import HttpClient
from dataloader.connectors.retry import Backoff
from dataloader.exceptions import PermanentError, SourceError
from dataloader.testing.cbr_source import CURRENCIES, CbrStub, Fault
from dataloader.workers.pipelines.cbr.args import CbrRatesArgs
from dataloader.workers.pipelines.cbr.chunks import by_currency, by_day
from dataloader.workers.pipelines.cbr.source import CbrSource

FRIDAY, SATURDAY, SUNDAY, MONDAY = (date(2025, 4, number) for number in (4, 5, 6, 7))


@pytest.fixture
async def cbr() -> AsyncIterator[CbrStub]:
    async with CbrStub() as stub:
        yield stub


@pytest.fixture
async def source(cbr: CbrStub) -> AsyncIterator[CbrSource]:
    async with HttpClient(backoff=Backoff(initial_s=0, max_s=0, jitter_s=0)) as http:
        yield CbrSource(http, cbr.base_url)


def week(by: str = "day") -> CbrRatesArgs:
    return CbrRatesArgs.model_validate({"start": FRIDAY, "end": MONDAY, "by": by})


def years(first: str = "2022-12-26", last: str = "2023-01-08") -> CbrRatesArgs:
    return CbrRatesArgs.model_validate({"start": first, "end": last, "by": "currency"})


def days_asked(cbr: CbrStub) -> list[str]:
    return [parse_qs(urlsplit(path).query)["date_req"][0] for path in cbr.asked if "daily" in path]


async def test_each_day_asked_for_is_one_request_and_one_chunk(cbr: CbrStub, source: CbrSource) -> None:
    chunks = [chunk async for chunk in by_day(week(), source, {})]

    assert days_asked(cbr) == ["04/04/2025", "05/04/2025", "06/04/2025", "07/04/2025"]
    assert [(chunk.checkpoint, chunk.done, chunk.total) for chunk in chunks] == [
        ({"day": "2025-04-04"}, 1, 4),
        ({"day": "2025-04-05"}, 2, 4),
        ({"day": "2025-04-06"}, 3, 4),
        ({"day": "2025-04-07"}, 4, 4),
    ]


async def test_days_off_repeat_the_rows_of_the_effective_day(source: CbrSource) -> None:
    _, saturday, sunday, monday = [chunk.rates async for chunk in by_day(week(), source, {})]

    assert saturday == sunday == monday
    assert {rate.rate_date for rate in saturday} == {SATURDAY}


async def test_days_are_resumed_after_the_checkpoint(cbr: CbrStub, source: CbrSource) -> None:
    chunks = [chunk async for chunk in by_day(week(), source, {"day": "2025-04-05"})]

    assert days_asked(cbr) == ["06/04/2025", "07/04/2025"]
    assert [(chunk.done, chunk.total) for chunk in chunks] == [(3, 4), (4, 4)]


async def test_a_load_that_was_finished_asks_nothing(cbr: CbrStub, source: CbrSource) -> None:
    assert [chunk async for chunk in by_day(week(), source, {"day": "2025-04-07"})] == []
    assert cbr.asked == []


async def test_requests_say_who_asks(cbr: CbrStub, source: CbrSource) -> None:
    await source.daily(FRIDAY)

    assert cbr.user_agents[0].startswith("dataloader/")


@pytest.mark.parametrize("fault", [Fault.FORBIDDEN, Fault.UNAVAILABLE])
async def test_a_busy_source_is_asked_again(cbr: CbrStub, source: CbrSource, fault: Fault) -> None:
    cbr.faults.extend([fault, fault])

    daily = await source.daily(FRIDAY)

    assert daily.rate_date == FRIDAY
    assert len(cbr.asked) == 3


@pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.HTML, Fault.NO_RATES])
async def test_a_service_page_stops_before_the_day_and_may_pass_later(
    cbr: CbrStub, source: CbrSource, fault: Fault
) -> None:
    cbr.faults_by_day[SATURDAY] = fault
    chunks = by_day(week(), source, {})

    assert (await anext(chunks)).checkpoint == {"day": "2025-04-04"}
    with pytest.raises(SourceError):
        await anext(chunks)


async def test_a_document_of_many_megabytes_is_not_read(source: CbrSource) -> None:
    """Reading 64 MB of XML takes gigabytes, and the time of everybody else in the process."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=b'<ValCurs Date="04.04.2025">' + b"<Valute/>" * 500_000 + b"</ValCurs>")

    app = web.Application()
    app.router.add_get("/scripts/XML_daily.asp", answer)
    async with TestServer(app) as server:
        with pytest.raises(PermanentError, match="answered with more than 4194304 bytes"):
            await replace(source, base_url=str(server.make_url("")).rstrip("/")).daily(FRIDAY)


async def test_a_slow_answer_is_waited_for(cbr: CbrStub, source: CbrSource) -> None:
    cbr.faults.append(Fault.SLOW)

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        asking = group.create_task(source.daily(FRIDAY))
        await cbr.arrived.wait()
        cbr.resume.set()

    assert asking.result().rate_date == FRIDAY


async def test_an_error_text_is_permanent(cbr: CbrStub, source: CbrSource) -> None:
    cbr.faults.append(Fault.ERROR_TEXT)

    with pytest.raises(PermanentError):
        await source.daily(FRIDAY)


async def test_by_currency_every_currency_and_year_is_a_chunk(cbr: CbrStub, source: CbrSource) -> None:
    chunks = [chunk async for chunk in by_currency(years(), source, {})]

    assert [chunk.checkpoint for chunk in chunks] == [
        {"currency": currency.cbr_id, "year": year} for currency in CURRENCIES for year in (2022, 2023)
    ]
    assert [(chunk.done, chunk.total) for chunk in chunks] == [(number, 12) for number in range(1, 13)]
    assert sum("XML_dynamic" in path for path in cbr.asked) == 12
    assert len(days_asked(cbr)) == 1


async def test_by_currency_gives_the_same_rows_as_by_day(source: CbrSource) -> None:
    by_days = {rate async for chunk in by_day(years(), source, {}) for rate in chunk.rates}
    by_currencies = {rate async for chunk in by_currency(years(), source, {}) for rate in chunk.rates}

    assert by_currencies == {rate for rate in by_days if rate.rate_date >= date(2022, 12, 26)}
    assert {rate.unit_rate * rate.nominal == rate.value for rate in by_currencies} == {True}
    assert next(rate for rate in by_currencies if rate.char_code == "AMD").unit_rate < Decimal(1)


async def test_by_currency_is_resumed_after_the_checkpoint(cbr: CbrStub, source: CbrSource) -> None:
    after = {"currency": CURRENCIES[-1].cbr_id, "year": 2022}

    chunks = [chunk async for chunk in by_currency(years(), source, after)]

    assert [(chunk.checkpoint, chunk.done) for chunk in chunks] == [({"currency": "R01810", "year": 2023}, 12)]
    assert {rate.char_code for rate in chunks[0].rates} == {"ZAR"}
    assert sum("XML_dynamic" in path for path in cbr.asked) == 1


async def test_a_currency_without_rates_in_a_year_is_an_empty_chunk(source: CbrSource) -> None:
    chunks = [chunk async for chunk in by_currency(years("2025-04-06", "2025-04-07"), source, {})]

    assert {chunk.rates for chunk in chunks} == {()}
    assert len(chunks) == len(CURRENCIES)


async def test_a_currency_that_no_daily_document_names_is_a_source_error(source: CbrSource) -> None:
    with pytest.raises(SourceError, match="R09999"):
        await source.codes("R09999", FRIDAY)


async def test_a_new_currency_is_loaded_like_the_others(cbr: CbrStub, source: CbrSource) -> None:
    cbr.currencies = (*CURRENCIES, replace(CURRENCIES[0], cbr_id="R09999", char_code="NEW"))

    daily = await source.daily(FRIDAY)

    assert "NEW" in {rate.char_code for rate in daily.rates}
