"""Files behind http and https, read in ranges that all belong to one version."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import version as version_of

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from dataloader.connectors.files.reach import Reach, private_message
from dataloader.connectors.files.source import BLOCK_BYTES, FileChangedError, FileVersion
from dataloader.connectors.retry import Backoff, TransientSourceError, is_transient, parse_retry_after
from dataloader.connectors.urls import show_url
from dataloader.exceptions import PermanentError, SourceError

MAX_REDIRECTS = 5
ATTEMPTS = 5

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HEAD_BYTES = 64 * 1024
_BY_HEAD = "sha256:"
"""How a token begins that we make of a file's beginning, for a server that names no version; no ETag or day does."""

_UNREAD_CODINGS = frozenset({"deflate", "br", "compress"})
"""Content codings that are not told by the first bytes, as gzip and zstd are."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        connect_s: Until it is connected to.
        answer_s: Until the head of its answer is there, whatever else it sends before.
        read_s: Between two parts of a body.
    """

    connect_s: float = 20.0
    answer_s: float = 60.0
    read_s: float = 30.0


class RefusedAddressError(OSError):
    """A name resolved to addresses that may not be connected to, and to no other."""


class GuardedResolver(AbstractResolver):
    """Resolves names, and keeps what a load may connect to: the check and the connection share one answer."""

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the allowed addresses of a name.

        Raises:
            RefusedAddressError: There are none.
            InvalidURL: It can be no name of a host.
        """
        try:
            found = await self._resolver.resolve(host, port, family)
        except UnicodeError:
            raise aiohttp.InvalidURL(host) from None
        allowed = [one for one in found if self._reach.allows(host, one["host"])]
        if found and not allowed:
            raise RefusedAddressError(private_message(host))
        return allowed

    async def close(self) -> None:
        """Close the resolver."""
        await self._resolver.close()


class RemoteSession:
    """The HTTP session that files are read through; bound to the event loop it is first used on.

    Bodies are given as they are stored, for offsets count stored bytes: what is packed is told by its first ones.

    Args:
        reach: Where loads may read.
        backoff: Waits between tries.
        patience: Waits for an answer.
    """

    def __init__(self, reach: Reach, *, backoff: Backoff | None = None, patience: Patience | None = None) -> None:
        self.reach = reach
        self.backoff = backoff or Backoff()
        self.patience = patience or Patience()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close the session; a second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @asynccontextmanager
    async def get(self, url: URL, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open an answer, following redirects as far as each of them may be asked.

        Raises:
            PermanentError: An address on the way is refused.
        """
        for _ in range(MAX_REDIRECTS + 1):
            self.reach.check_url(url)
            async with AsyncExitStack() as stack:
                response = await self._begin(url, headers, stack)
                if response.status not in _REDIRECTS:
                    yield response
                    return
                url = _redirected(response, url)
        raise SourceError(f"GET {show_url(url)} was redirected more than {MAX_REDIRECTS} times")

    async def _begin(self, url: URL, headers: Mapping[str, str], stack: AsyncExitStack) -> aiohttp.ClientResponse:
        """Return an answer whose head is there, open as long as the stack."""
        try:
            async with asyncio.timeout(self.patience.answer_s):
                answer = self._opened().get(url, headers=headers, allow_redirects=False)
                return await stack.enter_async_context(answer)
        except TimeoutError:
            within = f"within {self.patience.answer_s:g} s"
            raise TransientSourceError(f"GET {show_url(url)} was not answered {within}") from None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(resolver=GuardedResolver(self.reach)),
                headers={"User-Agent": f"dataloader/{version_of('dataloader')}", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self.patience.connect_s,
                    connect=self.patience.connect_s,
                    sock_read=self.patience.read_s,
                ),
            )
        return self._session


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at an http or https address."""

    session: RemoteSession = field(repr=False)
    url: URL = field(repr=False)

    @property
    def name(self) -> str:
        """The address without secrets."""
        return show_url(self.url)

    @property
    def seekable(self) -> bool:
        """By ranges; a server that knows none is read from the start."""
        return True

    async def look(self) -> FileVersion:
        """Return the length and the ETag, or the time of modification, that the server tells.

        Where it tells neither, the file's beginning stands for its version.
        """
        async for attempt in self.session.backoff.attempts(ATTEMPTS):
            with attempt:
                async with self._answer({}) as response:
                    version = _version(response)
                    return version if version.token else replace(version, token=await self._head_token(response))
        raise AssertionError("a spent series of tries ends with its last error")

    async def blocks(self, offset: int, *, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `offset` on; a connection that breaks is taken up again where it broke."""
        position, failures = offset, 0
        while version.size is None or position < version.size or position == offset == 0:
            try:
                async with aclosing(self._range(position, version)) as parts:
                    async for part in parts:
                        self._check_surplus(position + len(part), version)
                        yield part
                        position, failures = position + len(part), 0
                self._check_end(position, version)
            except TransientSourceError as error:
                failures += 1
                if failures >= ATTEMPTS:
                    raise
                await asyncio.sleep(self._pause_s(error, failures))
            else:
                return

    def _check_end(self, position: int, version: FileVersion) -> None:
        if version.size is not None and position < version.size:
            raise TransientSourceError(f"{self.name} ended {version.size - position} bytes early")

    def _check_surplus(self, position: int, version: FileVersion) -> None:
        if version.size is not None and position > version.size:
            raise SourceError(f"{self.name} sends more than the {version.size} bytes that its server says it has")

    def _pause_s(self, error: TransientSourceError, failures: int) -> float:
        backoff = self.session.backoff
        if error.retry_after_s is not None:
            return min(error.retry_after_s, backoff.retry_after_max_s)
        return min(backoff.initial_s * 2.0 ** (failures - 1), backoff.max_s)

    async def _range(self, position: int, version: FileVersion) -> AsyncGenerator[bytes, None]:
        """Yield what one answer holds from `position` on; a server that knows no ranges is read from the start."""
        headers = {"Range": f"bytes={position}-"} if position else {}
        async with self._answer(headers) as response:
            _check_version(response, version, self.name)
            skip = position - _start(response, self.name)
            if skip < 0:
                raise SourceError(f"{self.name} answered a range that begins {-skip} bytes later than asked")
            while part := await self._part(response):
                if skip < len(part):
                    yield part[skip:] if skip > 0 else part
                skip = max(0, skip - len(part))

    async def _head_token(self, response: aiohttp.ClientResponse) -> str:
        head = bytearray()
        while len(head) < _HEAD_BYTES and (part := await self._part(response)):
            head += part
        return _BY_HEAD + sha256(head[:_HEAD_BYTES]).hexdigest()

    async def _part(self, response: aiohttp.ClientResponse) -> bytes:
        """Return the next bytes of a body, none at its end; what is sent and belongs to no body does not count."""
        async with asyncio.timeout(self.session.patience.read_s):
            return await response.content.read(BLOCK_BYTES)

    @asynccontextmanager
    async def _answer(self, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self.session.get(self.url, headers) as response:
                self._check_status(response)
                yield response
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, RefusedAddressError):
                raise PermanentError(str(error.os_error)) from None
            raise TransientSourceError(f"{self.name} cannot be reached: {error.strerror or 'no connection'}") from None
        except aiohttp.InvalidURL:
            raise PermanentError(f"{self.name} is not an address that can be fetched") from None
        except TimeoutError:
            raise TransientSourceError(f"{self.name} sent nothing for {self.session.patience.read_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise TransientSourceError(f"{self.name} broke off: {type(error).__name__}") from None

    def _check_status(self, response: aiohttp.ClientResponse) -> None:
        status = response.status
        if status in {HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT}:
            self._check_coding(response)
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise FileChangedError(self.name)
        message = f"GET {self.name} answered {status} {response.reason or ''}".rstrip()
        if is_transient(status):
            wait_s = parse_retry_after(response.headers.get("Retry-After"))
            raise TransientSourceError(message, retry_after_s=wait_s, status=status)
        raise PermanentError(message, status=status)

    def _check_coding(self, response: aiohttp.ClientResponse) -> None:
        coding = ",".join(response.headers.getall("Content-Encoding", ())).lower()
        if _UNREAD_CODINGS.intersection(map(str.strip, coding.split(","))):
            raise PermanentError(
                f"GET {self.name} answered with Content-Encoding {coding[:40]!r}, which is not read and was not asked "
                "for; have the server send the file as it is, or as gzip or zstd"
            )


def _redirected(response: aiohttp.ClientResponse, url: URL) -> URL:
    """Return where an answer points to; a name and password go along within one host, port and scheme.

    Args:
        response: The answer.
        url: What was asked for.

    Raises:
        PermanentError: It does not say where, or nothing that can be fetched.
    """
    asked = show_url(response.url)
    location = response.headers.get("Location", "").strip()
    if not location:
        raise PermanentError(f"GET {asked} answered {response.status} without saying where the file is")
    try:
        target = response.url.join(URL(location))
    except ValueError:
        raise PermanentError(f"GET {asked} was redirected to what is no address") from None
    same = (target.scheme, target.host, target.port) == (url.scheme, url.host, url.port)
    named = target.user is not None or target.password is not None
    return target.with_user(url.user).with_password(url.password) if same and not named else target


def _version(response: aiohttp.ClientResponse) -> FileVersion:
    """Return what an answer says of its file, as a whole."""
    headers = response.headers
    token = headers.get("ETag") or headers.get("Last-Modified") or ""
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        match = _RANGE.fullmatch(headers.get("Content-Range", ""))
        size = int(match[3]) if match and match[3] != "*" else None
    else:
        size = response.content_length
    return FileVersion(size, token)


def _check_version(response: aiohttp.ClientResponse, version: FileVersion, name: str) -> None:
    """Refuse an answer that is not of the version that was begun; what the server does not say cannot differ."""
    now = _version(response)
    then = "" if version.token.startswith(_BY_HEAD) else version.token
    if now.token != then or (None not in {now.size, version.size} and now.size != version.size):
        raise FileChangedError(name)


def _start(response: aiohttp.ClientResponse, name: str) -> int:
    """Return the offset of an answer's first byte."""
    if response.status == HTTPStatus.OK:
        return 0
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        raise SourceError(f"{name} answered a range without saying which")
    return int(match[1])
