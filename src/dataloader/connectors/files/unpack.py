"""Packed streams: gzip, bzip2, xz and zstd, unpacked block by block with a bound on how far they may swell."""

from __future__ import annotations

import asyncio
import bz2
import lzma
import sys
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dataloader.connectors.files.source import BLOCK_BYTES
from dataloader.exceptions import PermanentError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SWELL_FREE_BYTES = 16 * 1024 * 1024
"""Below this size no stream is taken for a bomb."""

_XZ_MEMORY_BYTES = 128 * 1024 * 1024
_ZSTD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 27}
"""A window of 128 MiB, as the command line takes it."""


class Compression(StrEnum):
    """How a file's bytes are packed."""

    NONE = "none"
    GZIP = "gzip"
    BZIP2 = "bzip2"
    XZ = "xz"
    ZSTD = "zstd"
    ZIP = "zip"


_MAGIC = {
    b"\x1f\x8b": Compression.GZIP,
    b"BZh": Compression.BZIP2,
    b"\xfd7zXZ\0": Compression.XZ,
    b"\x28\xb5\x2f\xfd": Compression.ZSTD,
    **{bytes([sign]) + b"\x2a\x4d\x18": Compression.ZSTD for sign in range(0x50, 0x60)},
    b"PK\x03\x04": Compression.ZIP,
    b"PK\x05\x06": Compression.ZIP,
}


def detect(head: bytes) -> Compression:
    """Tell from a file's first bytes how it is packed; names lie."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), Compression.NONE)


@dataclass(frozen=True, slots=True)
class UnpackLimits:
    """How far packed data may swell.

    Attributes:
        max_ratio: Bytes out per byte in, once there are many.
        max_bytes: Bytes out in all.
    """

    max_ratio: float = 300.0
    max_bytes: int = 1 << 40


class _Unpacker(Protocol):
    """One member of a packed stream."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def feed(self, data: bytes) -> bytes:
        """Take bytes and return at most `BLOCK_BYTES`; feed nothing to get what is left."""
        ...

    @property
    def hungry(self) -> bool:
        """Whether everything fed has been given back."""
        ...


class _Gzip:
    """A gzip member."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> bytes:
        block = self._inner.decompress(self._inner.unconsumed_tail + data, BLOCK_BYTES)
        self._full = len(block) == BLOCK_BYTES
        return block

    @property
    def hungry(self) -> bool:
        return not self._inner.unconsumed_tail and not self._full


class _Library:
    """A member of a stream whose decompressor keeps its input itself: bzip2, xz, zstd."""

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor | zstd.ZstdDecompressor) -> None:
        self._inner = inner

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes) -> bytes:
        return self._inner.decompress(data, BLOCK_BYTES)

    @property
    def hungry(self) -> bool:
        return self._inner.needs_input


def _unpacker(kind: Compression) -> _Unpacker:
    match kind:
        case Compression.BZIP2:
            return _Library(bz2.BZ2Decompressor())
        case Compression.XZ:
            return _Library(lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES))
        case Compression.ZSTD:
            return _Library(zstd.ZstdDecompressor(options=_ZSTD_OPTIONS))
        case _:
            return _Gzip()


class Swell:
    """Counts what goes in and comes out, and refuses a stream that swells too far.

    Args:
        name: The file, for messages.
        limits: How far.
    """

    def __init__(self, name: str, limits: UnpackLimits) -> None:
        self._name = name
        self._limits = limits
        self.bytes_in = 0
        self.bytes_out = 0

    def add(self, *, taken: int, given: int) -> None:
        """Count.

        Raises:
            PermanentError: It has swollen too far.
        """
        self.bytes_in += taken
        self.bytes_out += given
        ratio = self.bytes_out / max(self.bytes_in, 1)
        if self.bytes_out > SWELL_FREE_BYTES and ratio > self._limits.max_ratio:
            raise PermanentError(
                f"{self._name} unpacks to over {self._limits.max_ratio:g} times its size; set DL_UNPACK_MAX_RATIO "
                "higher if that is what it should do"
            )
        if self.bytes_out > self._limits.max_bytes:
            raise PermanentError(f"{self._name} unpacks to more than {self._limits.max_bytes} bytes")


async def unpacked(
    packed: AsyncIterator[bytes], kind: Compression, *, name: str, limits: UnpackLimits
) -> AsyncGenerator[bytes, None]:
    """Yield a stream's unpacked blocks; several members behind one another are one stream.

    Raises:
        PermanentError: It is damaged, cut short, or swells too far.
    """
    swell, member = Swell(name, limits), _unpacker(kind)
    started = False
    async for data in packed:
        swell.add(taken=len(data), given=0)
        rest = data
        while rest or not member.hungry:
            if member.eof:
                rest = rest.lstrip(b"\0")
                if not rest:
                    break
                member = _unpacker(kind)
            block = await asyncio.to_thread(_feed, member, rest, name)
            started, rest = True, member.unused_data if member.eof else b""
            swell.add(taken=0, given=len(block))
            if block:
                yield block
    if started and not member.eof:
        raise PermanentError(f"{name} is cut short: its {kind} data has no end")


def _feed(member: _Unpacker, data: bytes, name: str) -> bytes:
    try:
        return member.feed(data)
    except (zlib.error, OSError, lzma.LZMAError, zstd.ZstdError, EOFError) as error:
        raise PermanentError(f"{name} is damaged: {error}") from None
