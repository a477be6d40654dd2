"""COPY of raw CSV or text, parsed by the server; rows that do not fit are found by the line it names, or by halving."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from asyncpg import DatetimeFieldOverflowError, PostgresError

from dataloader.connectors.delimited.cutter import quotes_of
from dataloader.connectors.delimited.dialect import Dialect
from dataloader.connectors.identifiers import TableName
from dataloader.connectors.loading.feeding import fed
from dataloader.connectors.loading.rows import BadRow, RowError, RowProblem, place_of, reason_of, shown
from dataloader.connectors.tables import Connection
from dataloader.exceptions import PermanentError

_PLAIN_SINCE = 18
_BINARY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_BINARY_END = b"\xff\xff"
_END_OF_DATA = b"\n\\."
_END_LINE = re.compile(rb"\n\\\.\r?\n")


@dataclass(frozen=True, slots=True)
class CsvFormat:
    """How the server is to read what it is sent; line ends are line feeds.

    Attributes:
        dialect: How records are told apart; None for the server's own formats: text, a line per record, or binary.
        columns: Names in the order of the fields.
        null: How a missing value is written.
        force_null: Columns where a quoted missing value is missing as well: those that hold no text.
        encoding: PostgreSQL's name of the encoding.
        binary: Whether records are in the server's binary format, without its first and last bytes.
    """

    dialect: Dialect | None
    columns: tuple[str, ...]
    null: str = ""
    force_null: tuple[str, ...] = ()
    encoding: str = "UTF8"
    binary: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records of a file.

    Attributes:
        source: The file.
        before: Lines of the file before the piece.
        data: The records.
    """

    source: str
    before: int
    data: bytes = field(repr=False)


async def copy_csv(
    conn: Connection, table: TableName, data: bytes | AsyncIterable[bytes], form: CsvFormat, *, source: str, before: int
) -> int:
    """Append records and return how many.

    Args:
        conn: Inside the caller's transaction.
        table: Where to; schema `pg_temp` for a temporary one.
        data: Whole records.
        form: How they are written.
        source: The file, for messages.
        before: Lines of the file before the data.

    Raises:
        RowError: A row does not fit; the transaction can only be rolled back.
    """
    try:
        return await _copy(conn, table, data, form)
    except RowProblem as error:
        raise RowError(source, error, before=before, headed=not form.binary, advice=_advice(form, error)) from None


def _advice(form: CsvFormat, error: PostgresError) -> str:
    """Return what helps where the file is not written as was said: its missing values, or its days."""
    if isinstance(error, DatetimeFieldOverflowError):
        return "; where the day or month comes first, say which: dates=DMY or dates=MDY"
    if form.null and reason_of(error).endswith(': ""'):
        return f"; a missing value is written {form.null} in this file (null), an empty field is none"
    return ""


async def copy_good_rows(
    conn: Connection, table: TableName, piece: Piece, form: CsvFormat, *, reject: Callable[[BadRow], None]
) -> int:
    """Append the records of a piece that fit, hand over those that do not, and return how many fit.

    Each good record is sent twice at most, however many bad ones there are, as long as the server names their lines.
    """
    count, rest, before = 0, piece.data, piece.before
    while rest:
        try:
            count += await _try(conn, table, rest, form)
            break
        except RowProblem as error:
            line, _ = place_of(error)
            if line is None:
                return count + await _halve(conn, table, Piece(piece.source, before, rest), form, reject=reject)
            start, end = record_at(rest, line, form.dialect)
            if start:
                count += await copy_good_rows(
                    conn, table, Piece(piece.source, before, rest[:start]), form, reject=reject
                )
            at = before + rest.count(b"\n", 0, start) + 1
            reject(BadRow(piece.source, at, shown(rest[start:end]).rstrip("\n"), reason_of(error)))
            before, rest = before + rest.count(b"\n", 0, end), rest[end:]
    return count


async def _halve(
    conn: Connection, table: TableName, piece: Piece, form: CsvFormat, *, reject: Callable[[BadRow], None]
) -> int:
    """Find bad records where the server does not say which: each half for itself."""
    middle = piece.data.count(b"\n") // 2 or 1
    _, cut = record_at(piece.data, middle, form.dialect)
    if cut >= len(piece.data):
        return await _single(conn, table, piece, form, reject=reject)
    first = Piece(piece.source, piece.before, piece.data[:cut])
    second = Piece(piece.source, piece.before + piece.data.count(b"\n", 0, cut), piece.data[cut:])
    return await copy_good_rows(conn, table, first, form, reject=reject) + await copy_good_rows(
        conn, table, second, form, reject=reject
    )


async def _single(
    conn: Connection, table: TableName, piece: Piece, form: CsvFormat, *, reject: Callable[[BadRow], None]
) -> int:
    try:
        return await _try(conn, table, piece.data, form)
    except RowProblem as error:
        reject(BadRow(piece.source, piece.before + 1, shown(piece.data).rstrip("\n"), reason_of(error)))
        return 0


def record_at(data: bytes, line: int, dialect: Dialect | None) -> tuple[int, int]:
    """Return start and end of the record that a line, counted from 1, belongs to; always moves on."""
    parts = data.split(b"\n", line - 1)
    start = len(data) - len(parts[-1]) if len(parts) == line else data.rstrip(b"\n").rfind(b"\n") + 1
    while start and _is_inside(data, start, dialect):
        start = data.rfind(b"\n", 0, start - 1) + 1
    end = start
    while end < len(data):
        newline = data.find(b"\n", end)
        end = len(data) if newline < 0 else newline + 1
        if not _is_inside(data, end, dialect, since=start):
            break
    return start, end


def _is_inside(data: bytes, place: int, dialect: Dialect | None, *, since: int = 0) -> bool:
    return dialect is not None and quotes_of(dialect).feed(data[since:place])


async def _try(conn: Connection, table: TableName, data: bytes, form: CsvFormat) -> int:
    """Copy behind a savepoint: what fails leaves nothing, and the transaction goes on."""
    async with conn.transaction():
        return await _copy(conn, table, data, form)


async def _copy(conn: Connection, table: TableName, data: bytes | AsyncIterable[bytes], form: CsvFormat) -> int:
    guarded = form.dialect is not None and conn.get_server_version().major < _PLAIN_SINCE
    blocks = _guarded(data) if guarded else _pieces(data)
    async with fed(_framed(blocks) if form.binary else _headed(blocks)) as source:
        tag = await conn.copy_to_table(
            table.name, schema_name=table.schema, columns=form.columns, source=source, **_options(form)
        )
    return int(tag.rpartition(" ")[2])


def _options(form: CsvFormat) -> dict[str, Any]:
    if form.dialect is None:
        return {"format": "binary"} if form.binary else {"format": "text", "header": True, "encoding": form.encoding}
    return {
        "format": "csv",
        "header": True,
        "delimiter": form.dialect.delimiter,
        "null": form.null,
        "quote": form.dialect.quote,
        "escape": form.dialect.escape,
        "force_null": form.force_null or None,
        "encoding": form.encoding,
    }


async def _framed(blocks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Send what the binary format begins and ends with."""
    yield _BINARY_HEAD
    async for block in blocks:
        yield block
    yield _BINARY_END


async def _headed(blocks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Send a header line first.

    The server knows the kind of line ends after the first line only, and until then does not count those inside of
    quotes: without a plain first line its line numbers may be too low.
    """
    yield b"\n"
    async for block in blocks:
        yield block


async def _pieces(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(data, bytes):
        yield data
        return
    async for block in data:
        yield block


async def _guarded(data: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """Refuse a line that an older server takes for the end of the data: it would drop the rest without a word."""
    tail = b"\n"
    async for block in _pieces(data):
        seen = tail + block
        if _END_OF_DATA in seen:
            _check_end(seen + b" ")
        tail = seen[-len(_END_OF_DATA) - 1 :]
        yield block
    _check_end(tail + b"\n")


def _check_end(seen: bytes) -> None:
    if _END_LINE.search(seen):
        raise PermanentError(
            "a line holds only \\., which PostgreSQL before 18 takes for the end of the data; quote it in the file"
        )
