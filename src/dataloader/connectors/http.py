"""HTTP for pipelines: one session, a limit per host, retries, and bounds on time and size."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

import aiohttp
from yarl import URL

from dataloader.connectors.retry import Backoff, TransientSourceError, is_transient, parse_retry_after
from dataloader.connectors.urls import parse_url, show_url
from dataloader.exceptions import DataloaderError, PermanentError, SourceError

DEFAULT_TIMEOUT_S = 20.0
DEFAULT_MAX_BYTES = 64 * 1024 * 1024
DEFAULT_ATTEMPTS = 4

_MAX_REDIRECTS = 5
_READ_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A successful answer; `url` is where it came from after redirects, `body` is decompressed."""

    url: str
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Request:
    url: URL
    headers: Mapping[str, str]
    timeout_s: float
    max_bytes: int


class HttpClient:
    """GET requests over one session, bound to the event loop it is opened in.

    At most `per_host` requests go to one host at a time; waiting for a turn does not count into the time of a
    request. Cookies are not kept, so that jobs do not see one another's.
    """

    def __init__(self, *, per_host: int = 2, backoff: Backoff | None = None) -> None:
        self._per_host = per_host
        self._backoff = backoff or Backoff()
        self._slots: WeakValueDictionary[tuple[str | None, int | None], asyncio.Semaphore] = WeakValueDictionary()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            headers={"User-Agent": f"dataloader/{version('dataloader')}"}, cookie_jar=aiohttp.DummyCookieJar()
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session and its connections; a second call does nothing."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        attempts: int = DEFAULT_ATTEMPTS,
    ) -> bytes:
        """Return the body at `url`; see `get`."""
        response = await self.get(
            url, params=params, headers=headers, timeout_s=timeout_s, max_bytes=max_bytes, attempts=attempts
        )
        return response.body

    async def get(
        self,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        attempts: int = DEFAULT_ATTEMPTS,
    ) -> HttpResponse:
        """Return the answer of `url` once its status is 2xx and its whole body has been read.

        Args:
            url: Absolute http or https address.
            params: Added to the query.
            headers: Added to the session's.
            timeout_s: For one try, from connecting to the last byte.
            max_bytes: Bound on the body after decompression.
            attempts: Tries in all; only what may pass by itself is tried again.

        Raises:
            SourceError: The source failed on every try; a later run may succeed.
            PermanentError: The address is wrong, refused (4xx), or its document too large.
        """
        request = _Request(parse_url(url, params), headers or {}, timeout_s, max_bytes)
        async for attempt in self._backoff.attempts(attempts):
            with attempt:
                return await self._try_once(request)
        raise AssertionError("a spent series of tries ends with its last error")

    async def _try_once(self, request: _Request) -> HttpResponse:
        async with self._slot(request.url):
            try:
                return await self._exchange(request)
            except (aiohttp.ClientError, OSError, UnicodeError) as error:
                raise _translate(error, request) from None

    async def _exchange(self, request: _Request) -> HttpResponse:
        if self._session is None:
            raise RuntimeError("the HTTP client is not open")
        async with self._session.get(
            request.url,
            headers=request.headers,
            timeout=aiohttp.ClientTimeout(total=request.timeout_s),
            max_redirects=_MAX_REDIRECTS + 1,
        ) as response:
            _check_status(response)
            body = await _read_bounded(response, request.max_bytes)
            return HttpResponse(str(response.url), response.status, response.headers, body)

    def _slot(self, url: URL) -> asyncio.Semaphore:
        """Return the host's turnstile; it lives as long as somebody uses it."""
        host = (url.host, url.port)
        slot = self._slots.get(host)
        if slot is None:
            slot = self._slots[host] = asyncio.Semaphore(self._per_host)
        return slot


def _check_status(response: aiohttp.ClientResponse) -> None:
    status, url = response.status, show_url(response.url)
    message = f"GET {url} answered {status} {response.reason or ''}".rstrip()
    if response.ok and status < 300:
        return
    if is_transient(status):
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        raise TransientSourceError(message, retry_after_s=wait_s, url=url, status=status)
    if status >= 400:
        raise PermanentError(message, url=url, status=status)
    raise SourceError(message, url=url, status=status)


async def _read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    body = bytearray()
    async for part in response.content.iter_chunked(_READ_BYTES):
        body += part
        if len(body) > max_bytes:
            url = show_url(response.url)
            raise PermanentError(f"GET {url} answered with more than {max_bytes} bytes", url=url)
    return bytes(body)


def _translate(error: Exception, request: _Request) -> DataloaderError:
    """Return a library's error as ours, without texts of the library that may carry a whole address."""
    url = show_url(request.url)
    match error:
        case TimeoutError():
            return TransientSourceError(f"GET {url} got no whole answer within {request.timeout_s:g} s", url=url)
        case UnicodeError():
            return PermanentError(f"GET {url} cannot be fetched: that is no name of a host", url=url)
        case aiohttp.InvalidURL() | aiohttp.RedirectClientError():
            return PermanentError(f"GET {url} was redirected to an address that cannot be fetched", url=url)
        case aiohttp.TooManyRedirects():
            return SourceError(f"GET {url} was redirected more than {_MAX_REDIRECTS} times", url=url)
        case aiohttp.ClientConnectionError() | aiohttp.ClientPayloadError():
            return TransientSourceError(f"GET {url} failed: {error}", url=url)
        case _:
            return TransientSourceError(f"GET {url} failed: {type(error).__name__}", url=url)
