"""Cuts a stream of CSV where records end, and gives it the line ends that the server reads."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from itertools import pairwise

from dataloader.connectors.delimited.dialect import Dialect
from dataloader.exceptions import PermanentError

MAX_RECORD_BYTES = 64 * 1024 * 1024
"""Longest record: a quote that is never closed must not swallow the rest of a file."""

_STEP_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a stream has been read to.

    Attributes:
        offset: Bytes before.
        line: Line that begins there, from 1.
    """

    offset: int = 0
    line: int = 1


class RecordReader:
    """Reads a stream in pieces that end where a record does.

    Args:
        blocks: The stream from `start` on.
        dialect: How records are written.
        start: Where the stream begins in its file.
        name: The file, for messages.
        tail: Whether the stream's end is the file's.
        max_record_bytes: Longest record.

    Attributes:
        place: Where the next piece begins.
        at_end: Whether there is none.
        unclosed_line: Where a record begins whose last quote is never closed, once that is known.
    """

    def __init__(
        self,
        blocks: AsyncGenerator[bytes, None],
        dialect: Dialect,
        *,
        start: Place,
        name: str,
        tail: bool = True,
        max_record_bytes: int = MAX_RECORD_BYTES,
    ) -> None:
        self._blocks = blocks
        self._tail = tail
        self._blanks = re.compile(rb"(?:\r?\n)*" if dialect.newline == "\n" else rb"\r*")
        self._newline = dialect.newline.encode()
        self._normal = _Newlines(dialect)
        self._quotes = quotes_of(dialect)
        self._name = name
        self._max_record_bytes = max_record_bytes
        self._rest = b""
        self._start = start.offset
        self.place = start
        self.at_end = False
        self.unclosed_line: int | None = None

    @property
    def given_bytes(self) -> int:
        """Bytes that have been read over or given."""
        return self.place.offset - self._start

    async def piece(self, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield blocks up to the first record end behind `limit_bytes`, or the end of the stream.

        Afterwards `place` says where the next piece begins, and `at_end` whether there is one.

        Raises:
            PermanentError: A record is longer than allowed.
        """
        self._normal.reset()
        async with aclosing(self._stored(limit_bytes)) as blocks:
            async for block in blocks:
                if data := self._normal.feed(block):
                    yield data
        if tail := self._normal.finish(last=self._tail and self.at_end):
            yield tail

    async def skip(self, limit_bytes: int) -> None:
        """Read over a piece: `place` and `at_end` are as if it had been given."""
        async with aclosing(self._stored(limit_bytes)) as blocks:
            async for _ in blocks:
                pass

    async def _stored(self, limit_bytes: int) -> AsyncGenerator[bytes, None]:
        """Yield a piece as it is stored."""
        self._quotes.reset()
        read = unfinished = 0
        record_line = self.place.line
        while block := await self._next(max(limit_bytes - read, min(read, _STEP_BYTES))):
            end = self._end_of_records(block)
            unfinished = unfinished + len(block) if end is None else len(block) - end
            if end is not None:
                record_line = self.place.line + block.count(self._newline, 0, end)
            read += len(block)
            if end is not None and read >= limit_bytes:
                self._rest = block[end:] + self._rest
                self._pass(block[:end])
                yield block[:end]
                async with aclosing(self._blank()) as blanks:
                    async for blank in blanks:
                        yield blank
                break
            if unfinished > self._max_record_bytes:
                raise PermanentError(
                    f"{self._name}, line {record_line}: a record is longer than {self._max_record_bytes} bytes; "
                    "is a quote not closed?"
                )
            self._pass(block)
            yield block
        if self.at_end and self._tail and self._quotes.inside:
            self.unclosed_line = record_line

    async def _blank(self) -> AsyncGenerator[bytes, None]:
        """Yield the blank lines behind a piece: at the end of the file they are no rows, before it they are."""
        begin = self.place
        while block := await self._next(_STEP_BYTES):
            if self.place.offset - begin.offset > self._max_record_bytes:
                raise PermanentError(
                    f"{self._name}, line {begin.line}: more than {self._max_record_bytes} bytes of blank lines follow"
                )
            match = self._blanks.match(block)
            size = match.end() if match else 0
            if block[size:] == b"\r":
                if more := await self._next(1):
                    self._rest = block[size:] + more + self._rest
                    block = block[:size]
                    if not size and more != b"\n":
                        return
                else:
                    size = len(block)
            elif size < len(block):
                self._rest = block[size:] + self._rest
            self._pass(block[:size])
            yield block[:size]
            if size < len(block):
                return

    async def _next(self, wanted: int) -> bytes:
        """Return what comes next, no more than wanted; nothing at the end."""
        while not self._rest:
            try:
                self._rest = await anext(self._blocks)
            except StopAsyncIteration:
                self.at_end = True
                return b""
        block, self._rest = self._rest[:wanted], self._rest[wanted:]
        return block

    def _pass(self, block: bytes) -> None:
        self.place = Place(self.place.offset + len(block), self.place.line + block.count(self._newline))

    def _end_of_records(self, block: bytes) -> int | None:
        """Return the position behind the last record that ends in a block, None if none does."""
        inside = self._quotes.feed(block)
        end = len(block)
        while True:
            if inside and (end := self._quotes.last(block, end)) < 0:
                return None
            if (newline := block.rfind(self._newline, 0, end)) < 0:
                return None
            inside = self._quotes.between(block, newline + 1, end)
            if not inside:
                return newline + 1
            end = newline


class _Doubled:
    """Quotes that are escaped by doubling: an odd number of them means inside."""

    def __init__(self, quote: bytes) -> None:
        self._quote = quote
        self.inside = False

    def reset(self) -> None:
        self.inside = False

    def feed(self, block: bytes) -> bool:
        """Return whether the end of a block lies inside of quotes."""
        self.inside ^= bool(block.count(self._quote) & 1)
        return self.inside

    def between(self, block: bytes, start: int, end: int) -> bool:
        """Return whether the two places differ in being inside."""
        return bool(block.count(self._quote, start, end) & 1)

    def last(self, block: bytes, end: int) -> int:
        """Return where the last quote before a place is, -1 if there is none."""
        return block.rfind(self._quote, 0, end)

    def split(self, block: bytes) -> list[bytes]:
        """Feed a block, and return what lies between its quotes, in turn inside and outside."""
        self.feed(block)
        return block.split(self._quote)

    def join(self, parts: list[bytes]) -> bytes:
        """Put together what was split."""
        return self._quote.join(parts)


class _Escaped:
    """Quotes that are escaped by another character, which has its meaning inside of quotes only."""

    def __init__(self, quote: bytes, escape: bytes) -> None:
        self._quote = quote
        self._signs = re.compile(b"|".join((re.escape(quote), re.escape(escape))))
        self.inside = self._pending = False
        self._toggles: list[int] = []

    def reset(self) -> None:
        self.inside = self._pending = False

    def feed(self, block: bytes) -> bool:
        """Return whether the end of a block lies inside of quotes."""
        self._toggles = []
        skip = 0 if self._pending else -1
        for match in self._signs.finditer(block):
            place = match.start()
            if place == skip:
                continue
            if match[0] == self._quote:
                self._toggles.append(place)
                self.inside = not self.inside
            elif self.inside:
                skip = place + 1
        self._pending = skip == len(block)
        return self.inside

    def between(self, block: bytes, start: int, end: int) -> bool:
        """Return whether the two places differ in being inside."""
        del block
        return bool((bisect_left(self._toggles, end) - bisect_left(self._toggles, start)) & 1)

    def last(self, block: bytes, end: int) -> int:
        """Return where the last quote before a place is that is not escaped, -1 if there is none."""
        del block
        before = bisect_left(self._toggles, end)
        return self._toggles[before - 1] if before else -1

    def split(self, block: bytes) -> list[bytes]:
        """Feed a block, and return what lies between quotes that are not escaped, in turn inside and outside."""
        self.feed(block)
        edges = [-1, *self._toggles, len(block)]
        return [block[start + 1 : end] for start, end in pairwise(edges)]

    def join(self, parts: list[bytes]) -> bytes:
        """Put together what was split."""
        return self._quote.join(parts)


def quotes_of(dialect: Dialect) -> _Doubled | _Escaped:
    """Return what tells inside from outside of quotes."""
    quote, escape = dialect.quote.encode(), dialect.escape.encode()
    return _Doubled(quote) if quote == escape else _Escaped(quote, escape)


class _Newlines:
    """Turns the line ends outside of quotes into line feeds, and drops blank lines at the end.

    The server takes one kind of line ends per COPY, and a blank line for a row.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._old = b"\r\n" if dialect.newline == "\n" else b"\r"
        self._quotes = quotes_of(dialect)
        self._inside = self._given = False
        self._held: list[bytes] = []

    def reset(self) -> None:
        self._quotes.reset()
        self._inside = self._given = False
        self._held = []

    def feed(self, block: bytes) -> bytes:
        """Return a block with its line ends; those at its end wait for what follows."""
        kept = len(block.rstrip(b"\r\n"))
        if not kept:
            self._held.append(block)
            return b""
        held, self._held, self._given = self._held, [block[kept:]], True
        return self._normal(b"".join((*held, block[:kept])))

    def _normal(self, block: bytes) -> bytes:
        if self._old not in block:
            self._inside = self._quotes.feed(block)
            return block
        parts = self._quotes.split(block)
        for place in range(int(self._inside), len(parts), 2):
            parts[place] = parts[place].replace(self._old, b"\n")
        self._inside ^= not len(parts) & 1
        return self._quotes.join(parts)

    def finish(self, *, last: bool) -> bytes:
        """Return the line ends that were held back; behind the last record of a file only its own."""
        held = b"".join(self._held)
        if not last:
            return self._normal(held)
        return b"\n" if held and self._given else b""
