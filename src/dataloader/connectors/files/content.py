"""A file's content as the loads see it: unpacked, in an encoding the server takes, from any offset on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from dataloader.connectors.files.encoding import UTF_8, Encoding, converted, find_encoding
from dataloader.connectors.files.source import FileVersion, SourceFile
from dataloader.connectors.files.unpack import Compression, UnpackLimits, detect, unpacked

SAMPLE_BYTES = 1024 * 1024
PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a file.

    Attributes:
        version: The state of the file that is read; any other is refused.
        compression: How it is packed.
        encoding: How its text is encoded.
        sample: Its beginning, unpacked and converted, without a byte order mark.
        whole: Whether the sample is all of it.
    """

    file: SourceFile
    version: FileVersion
    compression: Compression
    encoding: Encoding
    sample: bytes = field(repr=False)
    whole: bool
    limits: UnpackLimits = field(repr=False)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.file.name

    @property
    def is_parquet(self) -> bool:
        """Whether it begins as Parquet does, whose rows are found from its end."""
        return self.sample.startswith(PARQUET_MAGIC)

    @property
    def seekable(self) -> bool:
        """Whether any offset can be reached without reading what is before it."""
        return self.compression is Compression.NONE and not self.encoding.convert and self.file.seekable

    @property
    def size(self) -> int | None:
        """Bytes of the content, None when that is known only at its end."""
        return self.version.size if self.seekable else None

    async def blocks(self, offset: int) -> AsyncGenerator[bytes, None]:
        """Yield the content from `offset` on; close it when you stop early."""
        if self.seekable:
            source = self.file.blocks(offset, version=self.version)
        else:
            source = _skipping(self._from_start(), offset)
        async with aclosing(source) as blocks:
            async for block in blocks:
                yield block

    async def _from_start(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(_raw(self.file, self.version, self.compression, self.limits)) as raw:
            text = converted(raw, self.encoding, file=self.name) if self.encoding.convert else raw
            async for block in text:
                yield block


async def open_content(file: SourceFile, *, encoding: str | None, limits: UnpackLimits) -> Content:
    """Look at a file and read its beginning.

    Raises:
        PermanentError: It cannot be read as text.
        SourceError: It cannot be reached now.
    """
    version = await file.look()
    async with aclosing(file.blocks(0, version=version)) as blocks:
        first = await anext(blocks, b"")
    compression = detect(first)
    head, whole = await _head(_raw(file, version, compression, limits))
    parquet = head.startswith(PARQUET_MAGIC) and encoding is None
    found = UTF_8 if parquet else find_encoding(head, encoding, file=file.name)
    if found.convert:
        text, whole = await _head(converted(_raw(file, version, compression, limits), found, file=file.name))
        head = text
    return Content(file, version, compression, found, head[found.bom :], whole, limits)


async def _raw(
    file: SourceFile, version: FileVersion, compression: Compression, limits: UnpackLimits
) -> AsyncGenerator[bytes, None]:
    async with aclosing(file.blocks(0, version=version)) as stored:
        plain = compression in {Compression.NONE, Compression.ZIP}
        source = stored if plain else unpacked(stored, compression, name=file.name, limits=limits)
        async for block in source:
            yield block


async def _head(blocks: AsyncGenerator[bytes, None]) -> tuple[bytes, bool]:
    """Return the beginning of a stream and whether that is all of it."""
    head = bytearray()
    async with aclosing(blocks):
        async for block in blocks:
            head += block
            if len(head) >= SAMPLE_BYTES:
                return bytes(head), False
    return bytes(head), True


async def _skipping(blocks: AsyncGenerator[bytes, None], offset: int) -> AsyncGenerator[bytes, None]:
    skip = offset
    async with aclosing(blocks):
        async for block in blocks:
            if skip < len(block):
                yield block[skip:] if skip else block
            skip = max(0, skip - len(block))
