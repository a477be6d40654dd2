"""What a file holds, and how the server is to read it: CSV, JSON Lines."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from dataloader.connectors.delimited import Dialect, RecordReader, find_dialect, read_sample
from dataloader.connectors.delimited.columns import clean_names
from dataloader.connectors.delimited.cutter import Place
from dataloader.connectors.delimited.dialect import AS_BYTES, NO_QUOTE
from dataloader.connectors.delimited.keys import KeyValues, read_object
from dataloader.connectors.files import Content
from dataloader.connectors.loading.seen import Seen, declared
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.load_file.args import LoadFileArgs
from dataloader.workers.pipelines.load_file.state import Segment
from dataloader.workers.pipelines.target import Incoming

JSONL = Dialect(delimiter="\x02", quote=NO_QUOTE, escape=NO_QUOTE)
"""One field per line: JSON holds neither of the two characters as they are."""

_SAMPLE_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file's records are to be read.

    Attributes:
        kind: `csv` or `jsonl`.
        dialect: How the server and the cutter tell records apart.
        fields: What the file calls its columns.
        columns: Cleaned name to what its values are, in the order of the fields.
        start: Where the first record begins.
        by_place: Whether the fields have no names of their own.
    """

    kind: str
    dialect: Dialect
    fields: tuple[str, ...]
    columns: Mapping[str, Seen]
    start: Place
    by_place: bool = False

    def incoming(self, source: str) -> Incoming:
        """Return what comes of a file, for the table."""
        return Incoming(source, self.fields, self.columns, self.by_place)

    def read_bytes(self, offset: int) -> int:
        """Return how much of the file lies before a place."""
        return offset

    def size_of(self, segment: Segment) -> int:
        """Return the bytes of a segment."""
        return segment.size

    def may_be_cut(self, content: Content) -> bool:
        """Return whether pieces of the file can be read at the same time."""
        return content.seekable

    def suit(self, columns: Sequence[str], *, exact: bool) -> None:
        """Settle how rows are written for columns of these types: here they are sent as they are."""
        del columns, exact

    @property
    def binary(self) -> bool:
        """Whether rows go in the server's binary format."""
        return False

    async def blocks(self, content: Content, segment: Segment, *, tail: bool) -> AsyncGenerator[bytes, None]:
        """Yield a segment's records as the server is to be sent them; with `tail` it is the file's last.

        Raises:
            PermanentError: The segment ends elsewhere than when it was cut.
        """
        async with aclosing(_limited(content, segment)) as stored:
            reader = RecordReader(stored, self.dialect, start=segment.begin, name=content.name, tail=tail)
            # One byte more than there is: what stands behind the last line end belongs to the piece.
            async with aclosing(reader.piece(segment.size + 1)) as piece:
                async for block in piece:
                    yield block
        if reader.place != segment.end:
            ends = f"a piece ends at byte {reader.place.offset}, not at {segment.end.offset}"
            raise PermanentError(f"{content.name} has changed: {ends}")

    @asynccontextmanager
    async def reader(self, content: Content, place: Place) -> AsyncIterator[RecordReader]:
        """Open the records from a place on, or from the first if it is the file's beginning."""
        begin = place if place.offset else self.start
        blocks = content.blocks(begin.offset)
        try:
            yield RecordReader(blocks, self.dialect, start=begin, name=content.name)
        finally:
            await blocks.aclose()


async def _limited(content: Content, segment: Segment) -> AsyncGenerator[bytes, None]:
    left = segment.size
    async with aclosing(content.blocks(segment.begin.offset)) as blocks:
        async for block in blocks:
            yield block[:left]
            left -= len(block)
            if left <= 0:
                return


def find_layout(content: Content, args: LoadFileArgs) -> Layout:
    """Return how a file is to be read, from what is asked and its beginning.

    Raises:
        PermanentError: It is empty, or not what it should be.
    """
    text = _sample_text(content)
    if not text.strip():
        raise PermanentError(f"{content.name} is empty")
    if args.format == "jsonl" or (args.format == "auto" and _looks_like_json(text)):
        return _jsonl(text, content, args)
    if args.format == "auto":
        _check_is_delimited(text, content.name)
    return _csv(text, content, args)


def _sample_text(content: Content) -> str:
    """Return the sample as text that is the same bytes again when it is encoded: those that are none stay marked."""
    return content.sample.decode(content.encoding.sent, errors=AS_BYTES)


def _checked(fields: Sequence[str], content: Content, line: int) -> None:
    """Accept the names of a file's columns.

    Raises:
        PermanentError: They hold what is not text.
    """
    for name in fields:
        if bad := next((sign for sign in name if "\ud800" <= sign <= "\udfff"), None):
            what = f"byte 0x{ord(bad) - 0xDC00:02x}" if "\udc80" <= bad <= "\udcff" else f"U+{ord(bad):04X}"
            raise PermanentError(
                f"{content.name}, line {line}: {what} in the name of a column is not {content.encoding.sent}; "
                "say how the file is encoded, for example encoding=windows-1251"
            )


def _looks_like_json(text: str) -> bool:
    line = text.lstrip().partition("\n")[0]
    try:
        return line.startswith("{") and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _check_is_delimited(text: str, name: str) -> None:
    """Refuse what would pass for CSV of one column and is none; `format=csv` takes it all the same.

    Raises:
        PermanentError: It is a document of another kind.
    """
    start = text.lstrip()[:20].lower()
    if start.startswith(("{", "[")):
        raise PermanentError(f"{name} is JSON, but not JSON Lines: one object per line is needed")
    if start.startswith(("<!doctype", "<html", "<?xml")):
        raise PermanentError(f"{name} is a page or an XML document, not data; is the address right?")


def _csv(text: str, content: Content, args: LoadFileArgs) -> Layout:
    dialect = find_dialect(text, delimiter=args.delimiter, quote=args.quote, escape=args.escape)
    sample = read_sample(
        text,
        dialect,
        whole=content.whole,
        header=args.header,
        skip_lines=args.skip_lines,
        null=args.null,
        name=content.name,
        codec=content.encoding.sent,
        writing=args.writing,
    )
    _checked(sample.headers, content, args.skip_lines + 1)
    start = Place(sample.start.offset + content.encoding.bom, sample.start.line)
    if args.header or not args.columns:
        return Layout("csv", dialect, sample.headers, sample.columns, start, not args.header)
    if len(args.columns) != len(sample.headers):
        raise PermanentError(
            f"{content.name} has {len(sample.headers)} fields without names, `columns` names {len(args.columns)}"
        )
    columns = dict(zip(args.columns, sample.columns.values(), strict=True))
    return Layout("csv", dialect, tuple(columns), columns, start)


def _jsonl(text: str, content: Content, args: LoadFileArgs) -> Layout:
    keys: dict[str, KeyValues] = {}
    lines = text.split("\n")
    for line in (lines if content.whole else lines[:-1] or lines)[:_SAMPLE_LINES]:
        for key, value in read_object(line).items():
            keys.setdefault(key, KeyValues()).add(value)
    if not keys:
        raise PermanentError(f"{content.name} holds no JSON object in its first lines")
    known = {*keys, *clean_names(keys)}
    columns = {key: values.seen() for key, values in keys.items()}
    columns |= {name: declared(kind) for name, kind in args.columns.items() if name not in known}
    _checked(tuple(columns), content, 1)
    names = clean_names(columns)
    start = Place(content.encoding.bom, 1)
    return Layout("jsonl", JSONL, tuple(columns), dict(zip(names, columns.values(), strict=True)), start)
