"""Which key is which day: what is asked to find out, and what is concluded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

import pytest

from dataloader.exceptions import SourceError
from dataloader.testing.sgx_source import SgxStub, is_session
from dataloader.workers.pipelines.sgx.keys import ANCHOR, KeyBook, weekdays_between
from dataloader.workers.pipelines.sgx.parser import Session
from dataloader.workers.pipelines.sgx.search import MAX_REQUESTS, find_session

LAST = date(2026, 7, 16)
DAYS = SgxStub(LAST).days
KEYS = {day: key for key, day in DAYS.items()}
TUESDAY, WEDNESDAY, THURSDAY = date(2021, 6, 29), date(2021, 6, 30), date(2021, 7, 1)


@dataclass
class Exchange:
    """Sessions by key without a network; every fetch is counted.

    Attributes:
        pages: How often a key is answered by a page before it is by its file.
    """

    days: dict[int, date] = field(default_factory=lambda: dict(DAYS))
    asked: Counter[int] = field(default_factory=Counter)
    kept: dict[int, Session] = field(default_factory=dict)
    pages: Counter[int] = field(default_factory=Counter)

    async def session(self, key: int) -> Session | None:
        return self.kept.pop(key, None) or await self.fetch(key)

    async def fetch(self, key: int) -> Session | None:
        self.asked[key] += 1
        if self.pages[key] >= self.asked[key]:
            return None
        return Session(self.days[key], ()) if key in self.days else None

    def keep(self, key: int, session: Session) -> None:
        self.kept[key] = session


def book(*remembered: date, listed: Mapping[date, int] | None = None) -> KeyBook:
    """Return a book with days that earlier runs confirmed."""
    made = KeyBook()
    for year in sorted({day.year for day in remembered}):
        made.remember(year, {day.isoformat(): KEYS[day] for day in remembered if day.year == year})
    made.list_newest(listed or {})
    return made


def newest(count: int = 60) -> dict[date, int]:
    return dict(sorted(KEYS.items())[-count:])


def weekdays(first: date, last: date) -> list[date]:
    days = (first + timedelta(days=number) for number in range((last - first).days + 1))
    return [day for day in days if day.weekday() < 5]


async def found(keys: KeyBook, exchange: Exchange, days: Iterable[date]) -> list[date]:
    return [session.day for day in days if (session := await find_session(keys, exchange, day)) is not None]


@pytest.mark.parametrize("listed", [{}, newest()], ids=["without the list", "with the list"])
@pytest.mark.parametrize("first", [date(2018, 1, 19), date(2021, 6, 28), date(2026, 3, 20), date(2026, 7, 13)])
async def test_every_day_is_found_or_known_as_no_session_within_the_limit(listed: dict[date, int], first: date) -> None:
    for day in weekdays(first, first + timedelta(days=40)):
        exchange = Exchange()

        session = await find_session(book(listed=listed), exchange, day)

        assert (session is not None) is (is_session(day) and day <= LAST)
        assert exchange.asked.total() <= MAX_REQUESTS


async def test_a_range_asks_for_no_key_twice_and_hardly_for_one_outside_of_it() -> None:
    exchange = Exchange()
    days = weekdays(date(2023, 1, 2), date(2024, 12, 31))

    assert await found(book(), exchange, days) == [day for day in days if is_session(day)]
    assert max(exchange.asked.values()) == 1
    assert exchange.asked.total() <= len([day for day in days if is_session(day)]) + 15


async def test_a_remembered_day_is_asked_for_once() -> None:
    exchange = Exchange()

    assert await found(book(WEDNESDAY), exchange, [WEDNESDAY]) == [WEDNESDAY]
    assert exchange.asked == {KEYS[WEDNESDAY]: 1}


async def test_a_listed_day_is_asked_for_once() -> None:
    exchange = Exchange()

    assert await found(book(listed=newest()), exchange, [LAST]) == [LAST]
    assert exchange.asked == {KEYS[LAST]: 1}


async def test_a_day_next_to_a_remembered_one_is_found_at_once() -> None:
    exchange = Exchange()

    assert await found(book(TUESDAY), exchange, [WEDNESDAY]) == [WEDNESDAY]
    assert exchange.asked.total() == 1


async def test_a_day_between_neighbouring_keys_was_no_session_and_nothing_is_asked() -> None:
    exchange = Exchange()

    assert await found(book(date(2024, 12, 24), date(2024, 12, 26)), exchange, [date(2024, 12, 25)]) == []
    assert not exchange.asked


async def test_listed_neighbours_are_confirmed_by_their_files_before_a_day_is_called_no_session() -> None:
    exchange, keys = Exchange(), book(listed=newest())

    assert await found(keys, exchange, [date(2026, 5, 12)]) == []
    assert exchange.asked == {KEYS[date(2026, 5, 11)]: 1, KEYS[date(2026, 5, 13)]: 1}
    assert await found(keys, exchange, [date(2026, 5, 13)]) == [date(2026, 5, 13)]
    assert exchange.asked.total() == 2


async def test_a_list_that_is_wrong_misleads_nobody() -> None:
    shifted = {day: key + 2 for day, key in newest().items()}
    days = weekdays(date(2026, 6, 1), date(2026, 7, 10))

    assert await found(book(listed=shifted), Exchange(), days) == [day for day in days if is_session(day)]


async def test_days_after_the_newest_one_are_passed_over_and_the_end_is_looked_for_once() -> None:
    exchange, keys = Exchange(), book(listed=newest())
    days = weekdays(LAST, LAST + timedelta(days=14))

    assert await found(keys, exchange, days) == [LAST]
    assert exchange.asked.total() <= 6


@pytest.mark.parametrize("holes", [(0,), (0, 1), (-1, 0), (-2, -1, 0)])
async def test_holes_where_the_first_guess_lands_do_not_hide_a_day(holes: tuple[int, ...]) -> None:
    guess = book().next_try(WEDNESDAY, 0)
    assert guess is not None
    missing = {guess + hole for hole in holes} - {KEYS[WEDNESDAY]}
    exchange = Exchange({key: day for key, day in DAYS.items() if key not in missing})

    assert await found(book(), exchange, [WEDNESDAY]) == [WEDNESDAY]


async def test_a_hole_right_before_the_newest_day_does_not_pass_for_the_end() -> None:
    newest_day = date(2024, 12, 27)
    exchange = Exchange({key: day for key, day in DAYS.items() if day <= newest_day})
    del exchange.days[KEYS[date(2024, 12, 26)]]

    assert await found(book(date(2024, 12, 24)), exchange, [newest_day]) == [newest_day]


async def test_a_calendar_that_estimates_do_not_fit_is_searched_by_halves() -> None:
    monthly = [day for day in KEYS if day.year < 2024 and day.day < 8 and day.weekday() == 0]
    days = [ANCHOR.day, *monthly, *(day for day in KEYS if day.year >= 2024)]
    sparse = dict(enumerate(days, start=ANCHOR.key))
    listed = {day: key for key, day in sparse.items() if day >= date(2026, 4, 1)}

    for day in days[80:120]:
        exchange = Exchange(sparse)
        assert await found(book(listed=listed), exchange, [day]) == [day]
        assert exchange.asked.total() <= 25


async def test_a_hole_in_place_of_a_day_is_passed_over_and_told() -> None:
    keys, exchange = book(), Exchange()
    del exchange.days[KEYS[WEDNESDAY]]

    assert await found(keys, exchange, [TUESDAY, WEDNESDAY, THURSDAY]) == [TUESDAY, THURSDAY]
    assert keys.holes(WEDNESDAY) == [KEYS[WEDNESDAY]]


@pytest.mark.parametrize("remembered", [(), (TUESDAY, THURSDAY), (date(2021, 6, 1), date(2021, 7, 30))])
async def test_a_page_that_was_answered_once_in_place_of_a_file_hides_no_day(remembered: tuple[date, ...]) -> None:
    exchange = Exchange(pages=Counter({KEYS[WEDNESDAY]: 1}))

    assert await found(book(*remembered), exchange, [WEDNESDAY]) == [WEDNESDAY]


async def test_a_hole_is_asked_for_again_once_and_not_for_every_day() -> None:
    keys, exchange = book(date(2021, 6, 1), date(2021, 7, 30)), Exchange()
    del exchange.days[KEYS[WEDNESDAY]]

    days = weekdays(date(2021, 6, 2), date(2021, 7, 29))
    assert WEDNESDAY not in await found(keys, exchange, [*days, WEDNESDAY])
    assert exchange.asked[KEYS[WEDNESDAY]] == 2


async def test_pages_for_everything_are_an_outage_and_not_days_without_trading() -> None:
    keys, exchange = book(TUESDAY), Exchange()
    assert await found(keys, exchange, [TUESDAY]) == [TUESDAY]
    exchange.days.clear()

    with pytest.raises(SourceError, match="answers pages instead of files, that of 2021-06-29 too"):
        await find_session(keys, exchange, WEDNESDAY)


async def test_a_page_for_a_remembered_day_is_an_outage_if_there_are_only_pages() -> None:
    with pytest.raises(SourceError, match="answers pages instead of files, that of 2018-01-19 too"):
        await find_session(book(TUESDAY, WEDNESDAY), Exchange({}), WEDNESDAY)


async def test_a_listed_day_without_a_file_is_not_passed_over() -> None:
    exchange = Exchange()
    del exchange.days[KEYS[LAST]]

    with pytest.raises(SourceError, match="lists 2026-07-16"):
        await find_session(book(listed=newest()), exchange, LAST)


async def test_too_many_keys_without_a_file_end_the_search() -> None:
    exchange = Exchange({key: day for key, day in DAYS.items() if not 5500 < key < 5700})

    with pytest.raises(SourceError, match=f"among {MAX_REQUESTS}"):
        await find_session(book(DAYS[5500], DAYS[5700]), exchange, DAYS[5600])
    assert exchange.asked.total() == MAX_REQUESTS


async def test_remembered_days_that_moved_are_forgotten_and_found_again() -> None:
    keys = book(TUESDAY, WEDNESDAY, THURSDAY)
    exchange = Exchange({key + (1 if key > ANCHOR.key else 0): day for key, day in DAYS.items()})

    assert await found(keys, exchange, [TUESDAY, WEDNESDAY]) == [TUESDAY, WEDNESDAY]
    assert [(year, holds) for year, holds, _ in keys.take_news()][-1] == (2021, False)
    assert keys.get(WEDNESDAY) == KEYS[WEDNESDAY] + 1


async def test_what_was_read_before_the_memory_proved_wrong_is_saved_in_its_place() -> None:
    moved, exchange = date(2022, 7, 1), Exchange()
    keys = book(TUESDAY, WEDNESDAY, moved)
    exchange.days = {key + (key > KEYS[THURSDAY]): day for key, day in DAYS.items()}
    await found(keys, exchange, [WEDNESDAY])
    assert list(keys.take_news()) == []

    await found(keys, exchange, [moved])

    news = {year: (holds, pairs) for year, holds, pairs in keys.take_news()}
    assert news[2021][0] is False
    assert news[2021][1]["2021-06-30"] == KEYS[WEDNESDAY]
    assert news[2022][1]["2022-07-01"] == KEYS[moved] + 1


async def test_files_that_contradict_one_another_are_refused() -> None:
    keys, exchange = book(), Exchange()
    await found(keys, exchange, [THURSDAY])
    exchange.days[KEYS[WEDNESDAY]] = date(2021, 7, 5)

    with pytest.raises(SourceError, match="contradicts"):
        await find_session(keys, exchange, WEDNESDAY)


async def test_the_file_every_estimate_starts_from_must_be_of_its_day() -> None:
    for days in ({}, {ANCHOR.key: WEDNESDAY}):
        with pytest.raises(SourceError):
            await find_session(book(), Exchange(dict[int, date](days)), ANCHOR.day)


async def test_what_was_met_on_the_way_is_news_once() -> None:
    keys, exchange = book(), Exchange()
    await found(keys, exchange, [WEDNESDAY])

    news = {day: key for _, _, pairs in keys.take_news() for day, key in pairs.items()}

    assert news == {DAYS[key].isoformat(): key for key in exchange.asked}
    assert list(keys.take_news()) == []


@pytest.mark.parametrize(
    "stored",
    [
        "text",
        {"yesterday": 6200},
        {"2021-06-29": "x"},
        {"2021-06-29": 6200, "2021-06-30": 6200},
        {"2021-06-29": 6201, "2021-06-30": 6200},
        {"2021-06-29": 12},
    ],
)
def test_what_is_remembered_but_makes_no_sense_is_not_used(stored: object) -> None:
    keys = KeyBook()

    keys.remember(2021, stored)

    assert keys.get(TUESDAY) is None


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        (date(2026, 7, 16), date(2026, 7, 16), 0),
        (date(2026, 7, 16), date(2026, 7, 17), 1),
        (date(2026, 7, 17), date(2026, 7, 20), 1),
        (date(2026, 7, 18), date(2026, 7, 19), 0),
        (date(2018, 1, 19), date(2019, 1, 18), 260),
    ],
)
def test_weekdays_are_counted_after_the_start(start: date, end: date, count: int) -> None:
    assert weekdays_between(start, end) == count
