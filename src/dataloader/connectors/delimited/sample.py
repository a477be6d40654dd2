"""The beginning of a CSV file: its header, and what its columns seem to hold."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice, zip_longest

from dataloader.connectors.delimited.columns import clean_names
from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.delimited.dialect import AS_BYTES, Dialect
from dataloader.connectors.delimited.numbers import PLAIN, Writing
from dataloader.connectors.delimited.types import observe
from dataloader.connectors.loading.seen import Seen
from dataloader.exceptions import PermanentError

MAX_COLUMNS = 1_600
"""What a table of PostgreSQL can have."""

SAMPLE_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Sample:
    """What the beginning of a file tells.

    Attributes:
        headers: The columns as the file calls them; numbers if it has no header.
        columns: Name to what its values are.
        start: Where the first record of data begins, without the bytes of a byte order mark.
        records: Records looked at.
    """

    headers: tuple[str, ...]
    columns: dict[str, Seen]
    start: Place
    records: int


def read_sample(
    text: str,
    dialect: Dialect,
    *,
    whole: bool,
    header: bool,
    skip_lines: int,
    null: str,
    name: str,
    codec: str = "utf-8",
    writing: Writing = PLAIN,
) -> Sample:
    """Read the beginning of a file.

    Args:
        text: The beginning.
        dialect: How it is written.
        whole: Whether it is all of it; else its last record may be cut.
        header: Whether the first record names the columns.
        skip_lines: Lines before it that are no data.
        null: How a missing value is written.
        name: The file, for messages.
        codec: How the file is encoded, for counting bytes.
        writing: How values are written.

    Raises:
        PermanentError: It has no columns, or more than a table can have.
    """
    start = _after_lines(text, dialect, skip_lines)
    body = text[start:]
    try:
        records = list(islice(dialect.parse(body), SAMPLE_RECORDS + 1))
    except csv.Error as error:
        raise PermanentError(f"{name} is not CSV: {error}") from None
    if not whole and 1 < len(records) <= SAMPLE_RECORDS:
        records.pop()
    if not records:
        raise PermanentError(f"{name} is empty")
    _check_width(len(records[0]), name)
    head = _first_record(body, dialect) if header else ""
    line = 1 + skip_lines + head.count(dialect.newline)
    place = Place(len((text[:start] + head).encode(codec, AS_BYTES)), line)
    rows = records[1:] if header else records
    headers = tuple(records[0]) if header else tuple(f"column_{n}" for n in range(1, len(records[0]) + 1))
    return Sample(headers, _columns(headers, rows, null, writing), place, len(rows))


def _columns(headers: tuple[str, ...], rows: list[list[str]], null: str, writing: Writing) -> dict[str, Seen]:
    columns = zip_longest(headers, *rows, fillvalue="")
    return {
        name: observe(set(values) - {"", null}, writing)
        for name, (_, *values) in zip(clean_names(headers), columns, strict=False)
    }


def _check_width(width: int, name: str) -> None:
    if width > MAX_COLUMNS:
        raise PermanentError(f"{name} has {width} columns; a table can have {MAX_COLUMNS}")


def _after_lines(text: str, dialect: Dialect, count: int) -> int:
    place = 0
    for _ in range(count):
        place = text.find(dialect.newline, place) + 1
        if not place:
            return len(text)
    return place


def _first_record(text: str, dialect: Dialect) -> str:
    """Return the first record with everything before it and its line end."""
    end = inside = 0
    while (newline := text.find(dialect.newline, end)) >= 0:
        line = text[end : newline + 1]
        inside ^= line.count(dialect.quote) & 1
        end = newline + 1
        if not inside and text[:end].strip("\r\n"):
            return text[:end]
    return text
