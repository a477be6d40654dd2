"""Finding the files that a source names."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote, urlsplit

from yarl import URL

from dataloader.config import Settings
from dataloader.connectors.files.archive import open_archive, spool
from dataloader.connectors.files.bucket import find_in_bucket
from dataloader.connectors.files.content import Content, open_content
from dataloader.connectors.files.local import LocalFile
from dataloader.connectors.files.reach import Reach
from dataloader.connectors.files.remote import RemoteFile, RemoteSession
from dataloader.connectors.files.source import SourceFile
from dataloader.connectors.files.unpack import Compression, UnpackLimits, detect
from dataloader.connectors.urls import parse_url
from dataloader.exceptions import PermanentError

MAX_FILES = 5_000
MAX_SPOOL_BYTES = 8 * 1024 * 1024 * 1024


@dataclass(slots=True)
class FileAccess:
    """What a process reads files through; one per event loop.

    Attributes:
        session: For files behind http and https; it knows where loads may read.
        limits: How far packed files may swell.
    """

    session: RemoteSession
    limits: UnpackLimits = field(default_factory=UnpackLimits)

    async def close(self) -> None:
        """Close connections."""
        await self.session.close()

    async def find(self, source: str, *, member: str | None, stack: AsyncExitStack) -> list[SourceFile]:
        """Return the files that a path, a pattern of paths or an address names, in the order of their names.

        Args:
            source: `/path/prices-*.csv`, `file:///path`, `https://…` or `s3://bucket/prices-*.csv`.
            member: Which files of a ZIP archive; None when it holds one.
            stack: Holds what has been fetched to this machine as long as it is needed.

        Raises:
            PermanentError: There are none, or they may not be read.
        """
        found: list[SourceFile] = []
        for file in await self._locate(source):
            found += await self._members(file, member, stack)
        return found

    async def open(self, file: SourceFile, *, encoding: str | None) -> Content:
        """Look at a file and read its beginning; see `open_content`."""
        return await open_content(file, encoding=encoding, limits=self.limits)

    async def on_disk(self, content: Content, *, stack: AsyncExitStack) -> Path:
        """Return where a file's content lies on this machine, brought here if need be for as long as the stack is open.

        Raises:
            PermanentError: It is too large.
        """
        if isinstance(content.file, LocalFile) and content.seekable:
            return content.file.path
        path = Path(stack.enter_context(TemporaryDirectory(prefix="dataloader-"))) / "content"
        await spool(content.blocks(0), path, name=content.name, max_bytes=MAX_SPOOL_BYTES)
        return path

    async def _locate(self, source: str) -> list[SourceFile]:
        scheme = urlsplit(source).scheme if "://" in source else ""
        if scheme in {"http", "https"}:
            url = parse_url(source)
            self.session.reach.check_url(url)
            return [RemoteFile(self.session, URL(url))]
        if scheme == "file":
            source = unquote(urlsplit(source).path)
        elif scheme:
            self.session.reach.check_bucket(source)
            return list(await find_in_bucket(source, max_files=MAX_FILES))
        return list(await asyncio.to_thread(self._on_disk, source))

    def _on_disk(self, source: str) -> list[LocalFile]:
        if "\0" in source or not source:
            raise PermanentError("a path must not be empty or hold NUL bytes")
        if not has_magic(source) or Path(source).exists():
            return [LocalFile(self.session.reach.check_path(Path(source)))]
        self.session.reach.check_path(_fixed_part(source))
        paths = map(Path, glob(source, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        matches = sorted({path for path in paths if path.is_file()})
        if not matches:
            raise PermanentError(f"no file matches {source}")
        if len(matches) > MAX_FILES:
            raise PermanentError(f"{len(matches)} files match {source}; at most {MAX_FILES} are loaded by one job")
        return [LocalFile(self.session.reach.check_path(path)) for path in matches]

    async def _members(self, file: SourceFile, member: str | None, stack: AsyncExitStack) -> list[SourceFile]:
        version = await file.look()
        async with aclosing(file.blocks(0, version=version)) as blocks:
            kind = detect(await anext(blocks, b""))
        if kind is not Compression.ZIP:
            return [file]
        if isinstance(file, LocalFile):
            return list(await open_archive(file, file.path, pattern=member, limits=self.limits))
        directory = stack.enter_context(TemporaryDirectory(prefix="dataloader-"))
        path = Path(directory) / "archive.zip"
        await spool(file.blocks(0, version=version), path, name=file.name, max_bytes=MAX_SPOOL_BYTES)
        return list(await open_archive(file, path, pattern=member, limits=self.limits, copied=version))


def open_files(settings: Settings) -> FileAccess:
    """Return the access to files that the settings allow; nothing is opened yet."""
    reach = Reach.of(settings.dl_source_roots, settings.dl_source_hosts, settings.dl_source_buckets)
    limits = UnpackLimits(settings.dl_unpack_max_ratio, settings.dl_unpack_max_bytes)
    return FileAccess(RemoteSession(reach), limits)


def _fixed_part(pattern: str) -> Path:
    """Return the directory above the first part of a pattern that is not fixed."""
    fixed = Path()
    for part in Path(pattern).parts[:-1]:
        if has_magic(part):
            break
        fixed /= part
    return fixed
