"""How text is encoded: what a file says of itself, and who converts it, the server or we."""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from dataloader.exceptions import PermanentError

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SERVER_NAMES = {
    "utf-8": "UTF8",
    "ascii": "UTF8",
    "cp1250": "WIN1250",
    "cp1251": "WIN1251",
    "cp1252": "WIN1252",
    "cp1253": "WIN1253",
    "cp1254": "WIN1254",
    "cp1257": "WIN1257",
    "cp866": "WIN866",
    "koi8-r": "KOI8R",
    "koi8-u": "KOI8U",
    "iso8859-1": "LATIN1",
    "iso8859-2": "LATIN2",
    "iso8859-5": "ISO_8859_5",
    "iso8859-15": "LATIN9",
}
"""Encodings whose ASCII bytes mean ASCII everywhere, which the server converts faster than we would."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a file's text is encoded.

    Attributes:
        name: Python's name.
        server: PostgreSQL's name for what it is sent.
        bom: Bytes of a mark at the start, which are no data.
        convert: Whether we convert to UTF-8 before anything else looks at it.
    """

    name: str
    server: str = "UTF8"
    bom: int = 0
    convert: bool = False

    @property
    def sent(self) -> str:
        """Python's name of what the loads see and the server is sent."""
        return "utf-8" if self.convert else self.name


UTF_8 = Encoding("utf-8")


def find_encoding(head: bytes, asked: str | None, *, file: str) -> Encoding:
    """Return how a file is encoded: as it marks itself, as asked, or as UTF-8 if it is that.

    Raises:
        PermanentError: No encoding of that name exists, or none was asked for and the text is not UTF-8.
    """
    marked = next(((mark, name) for mark, name in _BOMS if head.startswith(mark)), None)
    name = normal_name(asked) if asked else None
    if marked is not None and name in {None, marked[1], *_variants(marked[1])}:
        mark, name = marked
        return Encoding(name, bom=len(mark)) if name == "utf-8" else Encoding(name, convert=True)
    if name is None:
        _check_utf8(head, file)
        return UTF_8
    server = _SERVER_NAMES.get(name)
    return Encoding(name, convert=True) if server is None else Encoding(name, server)


def normal_name(name: str) -> str:
    """Return Python's name of a text encoding.

    Raises:
        PermanentError: There is none.
    """
    try:
        info = codecs.lookup(name)
        "".encode(name)
    except (LookupError, ValueError, TypeError):
        raise PermanentError(f"{name[:40]!r} is not the name of an encoding; try utf-8 or windows-1251") from None
    return "utf-8" if info.name == "utf-8-sig" else info.name


def _variants(name: str) -> set[str]:
    return {f"{name}-le", f"{name}-be"}


def _check_utf8(head: bytes, file: str) -> None:
    if order := _utf16_order(head):
        raise PermanentError(f"{file} looks like UTF-16 without a byte order mark; say encoding=utf-16-{order}")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError as error:
        line = head.count(b"\n", 0, error.start) + 1
        raise PermanentError(
            f"{file}, line {line}: byte 0x{head[error.start]:02x} is not UTF-8; say how the file is encoded, "
            "for example encoding=windows-1251"
        ) from None


def _utf16_order(head: bytes) -> str | None:
    """Return the order of bytes if nearly every other one is zero, and hardly any of those between."""
    half = len(head) // 2
    high, low = head[::2].count(0), head[1::2].count(0)
    for order, zeros, others in (("be", high, low), ("le", low, high)):
        if zeros > half * 0.8 and others <= half * 0.05:
            return order
    return None


async def converted(blocks: AsyncIterator[bytes], encoding: Encoding, *, file: str) -> AsyncGenerator[bytes, None]:
    """Yield text as UTF-8.

    Raises:
        PermanentError: It is not text of that encoding.
    """
    decoder = codecs.getincrementaldecoder(encoding.name)()
    read = 0
    try:
        async for block in blocks:
            yield decoder.decode(block).encode()
            read += len(block)
        yield decoder.decode(b"", final=True).encode()
    except UnicodeError as error:
        raise PermanentError(f"{file}, near byte {read}: the text is not {encoding.name}: {error}") from None
