"""Where a stream of CSV is cut: where a record ends, and nowhere else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dataloader.connectors.delimited.cutter import Place, RecordReader
from dataloader.connectors.delimited.dialect import Dialect

DIALECTS = [Dialect(newline="\n"), Dialect(newline="\r"), Dialect(newline="\n", escape="\\")]
SIGNS = st.sampled_from([b'"', b"\n", b"\\", b"a", b"\r"])


@example(b"\n\r", 1, 1, DIALECTS[0])
@given(st.lists(SIGNS, max_size=40).map(b"".join), st.integers(1, 8), st.integers(1, 8), st.sampled_from(DIALECTS))
def test_a_piece_ends_where_a_record_does(data: bytes, block_bytes: int, limit_bytes: int, dialect: Dialect) -> None:
    places = asyncio.run(cut(data, dialect, block_bytes=block_bytes, limit_bytes=limit_bytes))

    *inner, last = places
    assert last == Place(len(data), 1 + data.count(dialect.newline.encode()))
    assert {place.offset for place in inner} <= ends(data, dialect)
    assert all(place.line == 1 + data[: place.offset].count(dialect.newline.encode()) for place in inner)


@given(st.lists(SIGNS, max_size=40).map(b"".join), st.sampled_from(DIALECTS))
def test_byte_by_byte_no_end_of_a_record_is_passed_over(data: bytes, dialect: Dialect) -> None:
    places = asyncio.run(cut(data, dialect, block_bytes=1, limit_bytes=1))

    passed = ends(data, dialect) - {place.offset for place in places}
    assert all(data[end : end + 1] in {b"\n", b"\r"} or data[end:].strip(b"\r\n") == b"" for end in passed), passed


@pytest.mark.parametrize("dialect", DIALECTS[::2])
def test_line_ends_in_a_long_field_cost_no_more_than_others(dialect: Dialect) -> None:
    lines = b"x\n" * 2_000_000

    outside, inside = (
        min(seconds(begin + lines + end, dialect) for _ in range(3)) for begin, end in ((b"", b""), (b'"', b'"\n'))
    )

    assert inside < 20 * outside


def seconds(data: bytes, dialect: Dialect) -> float:
    """Return how long the processor works to cut a stream."""
    began_s = time.process_time()
    asyncio.run(cut(data, dialect, block_bytes=1 << 18, limit_bytes=1 << 22))
    return time.process_time() - began_s


async def cut(data: bytes, dialect: Dialect, *, block_bytes: int, limit_bytes: int) -> list[Place]:
    """Return where pieces of a stream end."""
    reader = RecordReader(blocks(data, block_bytes), dialect, start=Place(), name="f")
    places = [reader.place]
    while not reader.at_end:
        await reader.skip(limit_bytes)
        places.append(reader.place)
    return places


async def blocks(data: bytes, size: int) -> AsyncGenerator[bytes, None]:
    """Give a stream in blocks."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def ends(data: bytes, dialect: Dialect) -> set[int]:
    """Return where records end, found sign by sign."""
    found, inside, skip = {0}, False, False
    for place, sign in enumerate(data.decode()):
        if skip:
            skip = False
        elif inside and sign == dialect.escape != dialect.quote:
            skip = True
        elif sign == dialect.quote:
            inside = not inside
        elif sign == dialect.newline and not inside:
            found.add(place + 1)
    return found
