"""`sgx.futures` from a job to its rows, against an exchange on this machine."""

from __future__ import annotations

import datetime as dt
import json
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection
from dataloader.storage.repositories.intake import IntakeRepository
from dataloader.testing.sgx_source import HTML, SgxStub, is_session, session_archive, session_text, zipped
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from dataloader.workers.pipelines.sgx.args import last_day
from tests.loading.scene import Scene, message
from tests.workers.harness import enqueue, finished, running_service

LAST = dt.date(2026, 7, 16)
MONDAY, TUESDAY, WEDNESDAY, THURSDAY, FRIDAY = (dt.date(2021, 6, 28) + dt.timedelta(days=n) for n in range(5))


@dataclass
class Futures(Scene):
    """A scene of the exchange's task, whose queue has a name of its own."""

    async def loads(self, *several: dict[str, object]) -> list[asyncpg.Record]:
        """Run loads one after the other in one worker; return the jobs' rows."""
        load_all()
        rows = []
        async with running_service(self.settings, REGISTRY):
            for args in several:
                job = NewJob("load.sgx", "sgx.futures", {"table": "t"} | args, max_attempts=1)
                rows += await finished(self.pg, await enqueue(self.pg, self.settings, job))
        return rows

    async def days(self, first: dt.date, last: dt.date) -> asyncpg.Record:
        """Load a range; return the job's row."""
        return await self.load(start=first.isoformat(), end=last.isoformat())

    async def day(self, day: dt.date) -> asyncpg.Record:
        """Load a day; return the job's row."""
        return await self.load(date=day.isoformat())

    async def again(self, job: asyncpg.Record) -> asyncpg.Record:
        """Run a job that failed once more, from its checkpoint on; return its row."""
        await IntakeRepository(self.settings.pg_schema).retry(self.pg, job["job_id"], from_start=False, actor=None)
        (row,) = await self.ended(job["job_id"])
        return row

    async def loaded(self) -> list[dt.date]:
        """Return the days that are loaded."""
        return [day for (day,) in await self.rows("select distinct trade_date from t order by 1")]

    async def remembered(self) -> dict[str, int]:
        """Return what the task keeps of days and keys."""
        rows = await self.rows("select value from dl_task_state where task = 'sgx.futures' order by key")
        return {day: key for (value,) in rows for day, key in json.loads(value).items()}


@pytest.fixture
async def exchange() -> AsyncIterator[SgxStub]:
    async with SgxStub(LAST) as stub:
        yield stub


@pytest.fixture
def futures(make_settings: Callable[..., Settings], pg: Connection, exchange: SgxStub, tmp_path: Path) -> Futures:
    """A scene of the exchange's task."""
    settings = make_settings(
        dl_sgx_base_url=exchange.base_url,
        dl_sgx_feed_url=exchange.feed_url,
        workers_json='[{"queue": "load.sgx", "concurrency": 1}]',
    )
    return Futures(tmp_path, settings, pg)


def sessions(first: dt.date, last: dt.date) -> list[dt.date]:
    days = (first + dt.timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in days if is_session(day)]


def progress(job: asyncpg.Record) -> tuple[object, ...]:
    found = json.loads(job["progress"])
    return found["done"], found["total"], found["unit"]


async def test_a_day_is_loaded_with_its_series(futures: Futures, exchange: SgxStub) -> None:
    job = await futures.day(LAST)

    assert job["status"] == "succeeded"
    price = Decimal(60_000 + LAST.toordinal() % 1_000)
    assert await futures.rows("select * from t order by series") == [
        (LAST, "1MFN26", "1MF", 7, 2026, None, None, None, None, Decimal("486.26"), 0, 0),
        (LAST, "FEFQ26", "FEF", 8, 2026, None, None, None, None, None, 0, 12),
        (LAST, "NKU26", "NK", 9, 2026, price, price + 15, price - 5 + Decimal("0.5"), price, price, 27189, 49260),
    ]
    assert (exchange.asked, exchange.feed_asked) == ({exchange.key_of(LAST): 1}, 1)
    assert (json.loads(job["checkpoint"]), progress(job)) == ({"day": "2026-07-16"}, (1, 1, "days"))


async def test_the_table_has_the_published_columns_and_key(futures: Futures) -> None:
    await futures.day(LAST)

    assert await futures.types() == {
        "trade_date": "date",
        "series": "text",
        "com": "text",
        "contract_month": "smallint",
        "contract_year": "smallint",
        **dict.fromkeys(("open", "high", "low", "close", "settle"), "numeric"),
        "volume": "bigint",
        "open_interest": "bigint",
    }
    key = "select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)"
    assert await futures.rows(f"{key} where i.indrelid = 't'::regclass and i.indisprimary order by a.attnum") == [
        ("trade_date",),
        ("series",),
    ]


async def test_a_range_passes_over_weekends_and_holidays(futures: Futures, exchange: SgxStub) -> None:
    first, last = dt.date(2024, 12, 20), dt.date(2025, 1, 3)

    job = await futures.days(first, last)

    assert await futures.loaded() == sessions(first, last)
    assert len(sessions(first, last)) == 9
    assert progress(job) == (11, 11, "days")
    assert max(exchange.asked.values()) == 1


async def test_a_weekend_is_passed_over_without_a_request(futures: Futures, exchange: SgxStub) -> None:
    job = await futures.days(dt.date(2026, 7, 11), dt.date(2026, 7, 12))

    assert job["status"] == "succeeded"
    assert (exchange.asked.total(), exchange.feed_asked) == (0, 0)


@pytest.mark.parametrize("day", [dt.date(2018, 1, 19), dt.date(2018, 1, 22), dt.date(2021, 6, 30), dt.date(2026, 1, 2)])
async def test_any_day_is_found_without_the_list(futures: Futures, exchange: SgxStub, day: dt.date) -> None:
    exchange.feed_body = HTML

    job = await futures.day(day)

    assert job["status"] == "succeeded"
    assert await futures.loaded() == [day]
    assert exchange.asked.total() <= 20


async def test_a_list_that_is_refused_does_not_fail_the_load(futures: Futures, exchange: SgxStub) -> None:
    exchange.feed_status = 404

    assert (await futures.day(WEDNESDAY))["status"] == "succeeded"
    assert await futures.loaded() == [WEDNESDAY]


async def test_days_that_are_not_published_yet_are_passed_over(futures: Futures) -> None:
    job = await futures.days(LAST, dt.date(2026, 7, 21))

    assert (job["status"], progress(job)) == ("succeeded", (4, 4, "days"))
    assert json.loads(job["progress"])["message"] == "no file of 2026-07-21 yet"
    assert await futures.loaded() == [LAST]


async def test_tomorrow_may_be_asked_for(futures: Futures) -> None:
    assert (await futures.day(last_day()))["status"] == "succeeded"


async def test_a_second_job_uses_what_the_first_one_confirmed(futures: Futures, exchange: SgxStub) -> None:
    await futures.days(MONDAY, FRIDAY)
    exchange.asked.clear()
    exchange.feed_asked = 0

    await futures.days(MONDAY, FRIDAY)

    assert exchange.asked == {exchange.key_of(day): 1 for day in sessions(MONDAY, FRIDAY)}
    assert exchange.feed_asked == 0


async def test_a_second_job_for_a_holiday_asks_for_no_file(futures: Futures, exchange: SgxStub) -> None:
    christmas = dt.date(2024, 12, 25)
    await futures.day(christmas)
    assert exchange.asked
    exchange.asked.clear()

    assert (await futures.day(christmas))["status"] == "succeeded"
    assert not exchange.asked


async def test_pairs_are_kept_by_year_and_only_those_that_files_confirmed(futures: Futures, exchange: SgxStub) -> None:
    await futures.days(dt.date(2024, 12, 30), dt.date(2025, 1, 3))

    remembered = await futures.remembered()
    assert remembered == {exchange.days[key].isoformat(): key for key in exchange.asked}
    keys = await futures.rows("select key from dl_task_state order by key")
    assert {("keys.2024",), ("keys.2025",)} <= set(keys)


async def test_a_file_of_another_day_than_remembered_is_not_loaded_as_that_day(
    futures: Futures, exchange: SgxStub
) -> None:
    await futures.days(MONDAY, FRIDAY)
    exchange.bodies[exchange.key_of(WEDNESDAY)] = session_archive(THURSDAY)
    await futures.pg.execute("truncate t")

    job = await futures.day(WEDNESDAY)

    assert job["status"] == "succeeded"
    assert await futures.loaded() == []


async def test_files_of_one_day_under_two_keys_fail_the_load(futures: Futures, exchange: SgxStub) -> None:
    await futures.day(MONDAY)
    exchange.bodies[exchange.key_of(FRIDAY)] = session_archive(THURSDAY)

    job = await futures.days(TUESDAY, FRIDAY)

    assert "contradicts the exchange's other files" in message(job)
    assert await futures.loaded() == [MONDAY, TUESDAY, WEDNESDAY, THURSDAY]


async def test_an_exchange_that_renumbered_its_files_is_learned_anew(futures: Futures, exchange: SgxStub) -> None:
    await futures.days(MONDAY, FRIDAY)
    exchange.days = {key + (key > 5331): day for key, day in exchange.days.items()}
    await futures.pg.execute("truncate t")

    await futures.days(MONDAY, FRIDAY)

    assert await futures.loaded() == sessions(MONDAY, FRIDAY)
    remembered = await futures.remembered()
    assert {day: remembered[day.isoformat()] for day in sessions(MONDAY, FRIDAY)} == {
        day: exchange.key_of(day) for day in sessions(MONDAY, FRIDAY)
    }


async def test_a_key_without_a_file_between_two_days_is_passed_over(futures: Futures, exchange: SgxStub) -> None:
    exchange.bodies[exchange.key_of(WEDNESDAY)] = HTML

    job = await futures.days(TUESDAY, THURSDAY)

    assert job["status"] == "succeeded"
    assert await futures.loaded() == [TUESDAY, THURSDAY]


async def test_an_exchange_that_answers_only_pages_fails_the_load(futures: Futures, exchange: SgxStub) -> None:
    exchange.closed = True

    job = await futures.days(MONDAY, FRIDAY)

    assert "answers pages instead of files" in message(job)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (zipped("0630FUT.csv", "nonsense"), "it has the columns nonsense"),
        (zipped("0630FUT.csv", session_text(WEDNESDAY))[:-30], "archive is damaged"),
        (zipped("0630FUT.csv", "0" * 1_000_000), "unpacks to more than"),
        (zipped("0630FUT.csv", session_text(WEDNESDAY), method=zipfile.ZIP_LZMA), "compressed by method"),
        (zipped("0630FUT.csv", session_text(WEDNESDAY).replace("27189", "many")), "row 2, column VOLUME: 'many'"),
    ],
)
async def test_a_load_that_failed_goes_on_with_the_day_that_failed_and_asks_no_day_twice(
    futures: Futures, exchange: SgxStub, body: bytes, reason: str
) -> None:
    bad = exchange.key_of(WEDNESDAY)
    await futures.day(MONDAY)
    exchange.asked.clear()
    exchange.bodies[bad] = body

    job = await futures.days(TUESDAY, FRIDAY)

    assert reason in message(job)
    assert f"key {bad}" in message(job)
    assert await futures.loaded() == [MONDAY, TUESDAY]
    assert json.loads(job["checkpoint"]) == {"day": "2021-06-29"}

    del exchange.bodies[bad]
    again = await futures.again(job)

    assert (again["status"], progress(again)) == ("succeeded", (4, 4, "days"))
    assert await futures.loaded() == sessions(MONDAY, FRIDAY)
    assert exchange.asked == {exchange.key_of(day): 1 for day in sessions(TUESDAY, FRIDAY)} | {bad: 2}


async def test_a_day_loaded_again_replaces_its_rows(futures: Futures, exchange: SgxStub) -> None:
    await futures.day(LAST)
    corrected = session_text(LAST).replace("486.26", "487.01")
    exchange.bodies[exchange.key_of(LAST)] = zipped("0716FUT.csv", corrected)

    await futures.day(LAST)

    assert await futures.rows("select settle from t where series = '1MFN26'") == [(Decimal("487.01"),)]
    assert await futures.rows("select count(*) from t") == [(3,)]


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ({"date": "2018-01-18"}, "must lie between 2018-01-19"),
        ({"date": "2999-01-01"}, "must lie between"),
        ({}, "give either date"),
        ({"start": "2025-01-01"}, "give either date"),
    ],
)
async def test_days_that_cannot_be_asked_for_are_refused(
    futures: Futures, args: dict[str, object], reason: str
) -> None:
    assert reason in message(await futures.load(**args))
