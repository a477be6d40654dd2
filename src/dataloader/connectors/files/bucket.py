"""Files in object stores and whatever else fsspec opens, with the machine's own credentials."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import has_magic
from typing import IO

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from dataloader.connectors.files.source import BLOCK_BYTES, FileChangedError, FileVersion
from dataloader.exceptions import PermanentError, SourceError

AHEAD_BYTES = 4 * 1024 * 1024
"""Bytes that are asked for at a time."""

_NEEDED = {"s3": "pip install s3fs (the extra `s3`)", "s3a": "pip install s3fs (the extra `s3`)"}
_TOKENS = ("ETag", "etag", "md5Hash", "content_md5", "generation", "LastModified", "last_modified", "mtime", "created")
_LIBRARIES = (
    ("botocore.exceptions", "BotoCoreError"),
    ("azure.core.exceptions", "AzureError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("aiohttp", "ClientError"),
)


@dataclass(frozen=True, slots=True)
class BucketFile:
    """An object of a store.

    Attributes:
        address: With its scheme.
    """

    store: AbstractFileSystem = field(repr=False)
    address: str

    @property
    def name(self) -> str:
        """The address."""
        return self.address

    @property
    def seekable(self) -> bool:
        """Always: ranges are asked for."""
        return True

    async def look(self) -> FileVersion:
        """Return the size, and the ETag or time of modification."""
        return await asyncio.to_thread(self._look)

    async def blocks(self, offset: int, *, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` on; at the end the object must still be the one that was begun."""
        file = await asyncio.to_thread(self._open, offset, version)
        try:
            while block := await asyncio.to_thread(self._read, file):
                yield block
            if await self.look() != version:
                raise FileChangedError(self.name)
        finally:
            await asyncio.to_thread(file.close)

    def _look(self) -> FileVersion:
        with named(self.address):
            self.store.invalidate_cache()
            found = self.store.info(self.address)
        if found["type"] != "file":
            raise PermanentError(f"{self.address} is not a file; name its files with a pattern: {self.address}/*")
        tokens = [str(found[name]) for name in _TOKENS if found.get(name)]
        return FileVersion(found["size"], tokens[0] if tokens else "")

    def _open(self, offset: int, version: FileVersion) -> IO[bytes]:
        if self._look() != version:
            raise FileChangedError(self.name)
        with named(self.address):
            file: IO[bytes] = self.store.open(
                self.address, "rb", block_size=AHEAD_BYTES, cache_type="readahead", compression=None
            )
            file.seek(offset)
        return file

    def _read(self, file: IO[bytes]) -> bytes:
        with named(self.address):
            return file.read(BLOCK_BYTES)


async def find_in_bucket(address: str, *, max_files: int) -> list[BucketFile]:
    """Return the files that an address or a pattern names, in the order of their names.

    Raises:
        PermanentError: There are none or too many, or what reads the store is not installed.
        SourceError: The store cannot be asked now.
    """
    return await asyncio.to_thread(_find, address, max_files)


def _find(address: str, max_files: int) -> list[BucketFile]:
    scheme = address.partition("://")[0]
    store = open_store(scheme, address)
    if not has_magic(address):
        return [BucketFile(store, address)]
    with named(address):
        store.invalidate_cache()
        found = store.glob(address, detail=True)
    paths = sorted(path for path, info in found.items() if info["type"] == "file")
    if not paths:
        raise PermanentError(f"no file matches {address}")
    if len(paths) > max_files:
        raise PermanentError(f"{len(paths)} files match {address}; at most {max_files} are loaded by one job")
    # A path does not hold what an address begins with: the scheme, and for servers of files the host.
    pattern = str(store._strip_protocol(address)).lstrip("/")  # noqa: SLF001 - what fsspec itself finds paths by
    begin = address.removesuffix(pattern) if address.endswith(pattern) else f"{scheme}://"
    return [BucketFile(store, begin + path.lstrip("/")) for path in paths]


def open_store(scheme: str, address: str) -> AbstractFileSystem:
    """Return the store of an address; where it is and who asks come from the environment.

    Raises:
        PermanentError: No library reads it, or it is no store but the disk of this machine.
        SourceError: It cannot be asked now.
    """
    try:
        with named(address):
            store, _ = fsspec.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        needed = _NEEDED.get(scheme, str(error))
        raise PermanentError(f"what reads {scheme}:// is not installed: {needed}") from None
    except (ValueError, TypeError, AttributeError):
        raise PermanentError(f"{scheme}:// is not supported; give a path, or an address of http, https or s3") from None
    if isinstance(store, LocalFileSystem):
        raise PermanentError(f"{address} is a file of this machine; name it by its path, below one of DL_SOURCE_ROOTS")
    return store


@contextmanager
def named(address: str, done: str = "read") -> Iterator[None]:
    """Turn what a store's library raises into errors that name the address.

    Args:
        address: Of a file or folder.
        done: What was to be done with it.

    Raises:
        PermanentError: There is no such file, or it may not be read or written.
        SourceError: The store cannot be asked now.
    """
    try:
        yield
    except FileNotFoundError:
        raise PermanentError(f"{address} does not exist") from None
    except PermissionError:
        raise PermanentError(f"{address} may not be {done} with this machine's credentials") from None
    except OSError as error:
        if type(error).__name__ == "FileExpired":
            raise FileChangedError(address) from None
        raise SourceError(f"{address} could not be {done}: {_excerpt(error)}") from None
    except _failures() as error:
        raise SourceError(f"{address} could not be {done}: {_excerpt(error)}") from None


def _failures() -> tuple[type[BaseException], ...]:
    """Return the errors of the libraries that are in use, which are no OSError."""
    found = (getattr(sys.modules.get(module), name, None) for module, name in _LIBRARIES)
    return (TimeoutError, *(kind for kind in found if kind is not None))


def _excerpt(error: BaseException) -> str:
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError"}:
        return (
            "this machine has no credentials for it; give them to its environment, for S3 as AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        )
    return f"{type(error).__name__}: {error}"[:300]
