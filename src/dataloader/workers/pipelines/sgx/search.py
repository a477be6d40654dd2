"""Finding a day's file: a key at a time, until a file says it is of that day or none is left that could be."""

from __future__ import annotations

import datetime as dt
from typing import Protocol

from dataloader.exceptions import SourceError
from dataloader.workers.pipelines.sgx.keys import KeyBook
from dataloader.workers.pipelines.sgx.parser import Session

MAX_REQUESTS = 40


class Sessions(Protocol):
    """Where sessions come from."""

    async def session(self, key: int) -> Session | None:
        """Return the session of a key, None if it has no file."""

    async def fetch(self, key: int) -> Session | None:
        """Return the same, asked for anew."""

    def keep(self, key: int, session: Session) -> None:
        """Keep a session for later."""


async def find_session(book: KeyBook, source: Sessions, day: dt.date) -> Session | None:
    """Return the session of a day, None if the exchange did not trade or has not published it yet.

    What is learned on the way is entered in the book.

    Raises:
        SourceError: The exchange cannot be asked, has no file where it must have one, or its keys make no sense.
    """
    pages = 0
    for tries in range(MAX_REQUESTS):
        key = book.next_try(day, tries)
        if key is None and (key := book.next_doubt(day)) is None:
            await _check_none(book, source, day, pages)
            return None
        session = await _ask(book, source, key)
        pages += session is None
        if session is not None and session.day == day:
            return session
        if session is not None and session.day > day:
            source.keep(key, session)
    raise SourceError(f"no file of {day} was found among {MAX_REQUESTS} of the exchange")


async def _ask(book: KeyBook, source: Sessions, key: int) -> Session | None:
    session = await source.session(key)
    if session is None:
        book.miss(key)
    else:
        book.confirm(session.day, key)
    return session


async def _check_none(book: KeyBook, source: Sessions, day: dt.date, pages: int) -> None:
    """Refuse to call a day one without trading where only pages say so and the exchange answers nothing else.

    Raises:
        SourceError: The day is listed, or a file that is known to be there is not answered either.
    """
    if book.is_listed_without_file(day):
        raise SourceError(f"the exchange lists {day} and answers a page instead of its file")
    before, _ = book.bounds(day)
    if pages and await source.fetch(before.key) is None:
        raise SourceError(f"the exchange answers pages instead of files, that of {before.day} too")
