"""ZIP archives: their members as files."""

from __future__ import annotations

import asyncio
import lzma
import struct
import zipfile
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import FileIO
from pathlib import Path

from dataloader.connectors.files.local import LocalFile, version_of
from dataloader.connectors.files.source import BLOCK_BYTES, FileChangedError, FileVersion, SourceFile
from dataloader.connectors.files.unpack import Swell, UnpackLimits
from dataloader.exceptions import PermanentError

MAX_MEMBERS = 10_000

_MAX_READ_BYTES = 16 * 1024 * 1024
"""A directory is read at once and takes many times its size in memory; this one holds `MAX_MEMBERS` with long names."""

_ENCRYPTED = 0x1
_METHODS = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
"""Those that `zipfile` unpacks in bounded pieces; of the others a kilobyte may become gigabytes before any is given."""

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file of an archive that lies on this machine.

    Attributes:
        archive: The archive as people know it.
        path: Where its bytes lie.
        member: The file's name inside.
        copied: The version of the archive that lies there, None if it lies where it always does.
    """

    archive: SourceFile
    path: Path = field(compare=False)
    member: str
    limits: UnpackLimits = field(repr=False)
    copied: FileVersion | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """Archive and member."""
        return f"{self.archive.name}!{self.member}"

    @property
    def seekable(self) -> bool:
        """Packed data is read from its start."""
        return False

    async def look(self) -> FileVersion:
        """Return the version of the archive that is read; the member's size is but a claim of its header.

        An archive elsewhere may have changed since it was copied: what is loaded is the copy.
        """
        found = self.copied or await self.archive.look()
        return FileVersion(None, found.token or str(found.size or ""))

    async def blocks(self, offset: int, *, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield the unpacked bytes from `offset` on."""
        archive, stream = await asyncio.to_thread(self._open)
        swell = Swell(self.name, self.limits)
        swell.add(taken=archive.getinfo(self.member).compress_size, given=0)
        try:
            skip = offset
            while block := await asyncio.to_thread(self._read, archive, stream, version):
                swell.add(taken=0, given=len(block))
                if skip < len(block):
                    yield block[skip:]
                skip = max(0, skip - len(block))
            if (await self.look()).token != version.token:
                raise FileChangedError(self.name)
        finally:
            stream.close()
            archive.close()

    def _open(self) -> tuple[zipfile.ZipFile, zipfile.ZipExtFile]:
        try:
            archive = zipfile.ZipFile(self.path)
            stream = archive.open(self.member)
        except KeyError:
            raise FileChangedError(self.name) from None
        except _DAMAGED as error:
            raise PermanentError(f"{self.name} cannot be unpacked: {error}") from None
        assert isinstance(stream, zipfile.ZipExtFile)  # noqa: S101 - what `open` gives for reading
        return archive, stream

    def _read(self, archive: zipfile.ZipFile, stream: zipfile.ZipExtFile, version: FileVersion) -> bytes:
        try:
            block = stream.read(BLOCK_BYTES)
        except _DAMAGED as error:
            self._check_version(archive, version)
            raise PermanentError(f"{self.name} is damaged: {error}") from None
        self._check_version(archive, version)
        return block

    def _check_version(self, archive: zipfile.ZipFile, version: FileVersion) -> None:
        """Accept what has been read, if the archive still is the one that was begun; a copy of ours does not change."""
        if isinstance(self.archive, LocalFile) and archive.fp is not None:
            now = version_of(archive.fp.fileno())
            if now.token != version.token:
                raise FileChangedError(self.name)


class _TooManyError(Exception):
    """A directory is larger than that of any archive that is loaded."""


class _Stored(FileIO):
    """An archive that is asked what it holds."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return bytes.

        Raises:
            _TooManyError: More are asked for than a directory may have.
        """
        if size is not None and size > _MAX_READ_BYTES:
            raise _TooManyError
        return super().read(size) or b""


async def open_archive(
    file: SourceFile, path: Path, *, pattern: str | None, limits: UnpackLimits, copied: FileVersion | None = None
) -> list[ZipMember]:
    """Return the members to load, in the archive's order.

    Args:
        file: The archive.
        path: Where its bytes lie.
        pattern: Name of the wanted member, or a pattern for several; None if there is only one.
        limits: How far a member may swell.
        copied: The archive's version, if what lies there is a copy of it.

    Raises:
        PermanentError: It is damaged, encrypted, packed in a way that is not read, or it is not clear what is wanted.
    """
    members = await asyncio.to_thread(_members, file.name, path)
    names = [info.filename for info in members]
    exact = [name for name in names if name == pattern]
    wanted = exact or [name for name in names if pattern is None or fnmatchcase(name, pattern)]
    if not wanted:
        raise PermanentError(f"{file.name} holds no file named {pattern!r}; it holds {_listed(names)}")
    if pattern is None and len(wanted) > 1:
        raise PermanentError(
            f"{file.name} holds {len(names)} files; name one or a pattern in `member`: {_listed(names)}"
        )
    for info in members:
        if info.filename in wanted and info.compress_type not in _METHODS:
            raise PermanentError(
                f"{file.name}!{info.filename} is packed by method {info.compress_type} of ZIP, which is not read; "
                "pack it with Deflate, or as .gz, .bz2, .xz or .zst"
            )
    return [ZipMember(file, path, name, limits, copied) for name in wanted]


def _members(name: str, path: Path) -> list[zipfile.ZipInfo]:
    try:
        with _Stored(path) as file, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if _is_data(info)]
    except _TooManyError:
        raise PermanentError(f"{name} holds more than {MAX_MEMBERS} files; pack fewer in one archive") from None
    except _DAMAGED as error:
        raise PermanentError(f"{name} is a damaged archive: {error}") from None
    if len(members) > MAX_MEMBERS:
        raise PermanentError(f"{name} holds {len(members)} files; at most {MAX_MEMBERS} are read")
    if not members:
        raise PermanentError(f"{name} is an archive without files")
    if any(info.filename == "[Content_Types].xml" for info in members):
        raise PermanentError(f"{name} is an office document, not data; save it as CSV")
    if any(info.flag_bits & _ENCRYPTED for info in members):
        raise PermanentError(f"{name} is encrypted")
    return members


def _is_data(info: zipfile.ZipInfo) -> bool:
    hidden = info.filename.startswith("__MACOSX/") or info.filename.rpartition("/")[2].startswith(".")
    return not info.is_dir() and not hidden


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown


async def spool(blocks: AsyncGenerator[bytes, None], path: Path, *, name: str, max_bytes: int) -> None:
    """Write a file's bytes to a path of this machine, for what must be read from its end.

    Raises:
        PermanentError: It is larger than allowed.
    """
    size = 0
    target = await asyncio.to_thread(path.open, "wb")
    try:
        async with aclosing(blocks):
            async for block in blocks:
                size += len(block)
                if size > max_bytes:
                    raise PermanentError(f"{name} is larger than {max_bytes} bytes")
                await asyncio.to_thread(target.write, block)
    finally:
        target.close()
