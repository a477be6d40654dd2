"""Requests to the service: what is sent, what may be sent again, and when."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError

from dataloader.client.errors import UnreachableError, error_from
from dataloader.connectors.retry import parse_retry_after
from dataloader.exceptions import DataloaderError, InvalidError, UnavailableError

_PREFIX = "/api/v1"
_TOO_MANY = 429
_UNSENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        path: Below `/api/v1`.
        repeatable: Sending it twice does no more than sending it once.
        wait_s: How long the service may hold the answer back.
    """

    method: str
    path: str
    params: Sequence[tuple[str, str]] = ()
    body: object = None
    repeatable: bool = True
    wait_s: float = 0


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a request is tried, and how long to wait in between.

    Attributes:
        tries: In all.
        initial_s: Longest wait after the first failure; it doubles with each.
        max_s: Where it stops doubling.
        retry_after_max_s: A longer Retry-After than this is not waited for.
    """

    tries: int = 4
    initial_s: float = 0.25
    max_s: float = 5.0
    retry_after_max_s: float = 30.0

    def wait_s(self, failures: int, retry_after_s: float | None) -> float | None:
        """Return the wait before the next try, None when there is to be none."""
        if failures >= self.tries or (retry_after_s or 0) > self.retry_after_max_s:
            return None
        bound_s = min(self.initial_s * 2.0 ** (failures - 1), self.max_s)
        return max(retry_after_s or 0.0, bound_s * random.uniform(0.5, 1.0))  # noqa: S311 - jitter


class _FailedTryError(Exception):
    """One try failed in a way that another may not.

    Attributes:
        untouched: The service did nothing, so that even what must not be repeated may be.
    """

    def __init__(self, error: DataloaderError, *, untouched: bool = False, retry_after_s: float | None = None) -> None:
        super().__init__(error.message)
        self.error = error
        self.untouched = untouched
        self.retry_after_s = retry_after_s


class Transport:
    """Sends calls to one service over one session.

    Args:
        base_url: Where the service is, such as `http://127.0.0.1:8081`.
        session: Used and left open; None opens one of its own with the first call.
        timeout_s: For one try, beside the time the service may hold the answer back.
        patience: How failed tries are repeated.
    """

    def __init__(
        self, base_url: str, *, session: aiohttp.ClientSession | None, timeout_s: float, patience: Patience
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._session = session
        self._own: aiohttp.ClientSession | None = None
        self._timeout_s = timeout_s
        self._patience = patience

    async def close(self) -> None:
        """Close the session if it is our own."""
        own, self._own = self._own, None
        if own is not None:
            await own.close()

    async def fetch(self, call: Call, kind: type[M]) -> tuple[int, M]:
        """Send a call; return the answer's status and what it says.

        Raises:
            DataloaderError: The one that the service answered with.
            UnavailableError: The service cannot be reached, or what answers is no Dataloader.
        """
        status, body = await self.send(call)
        try:
            return status, kind.model_validate_json(body)
        except ValidationError as error:
            raise UnavailableError(
                f"{self._show(call)} did not answer like this version of Dataloader", url=self.base_url
            ) from error

    async def send(self, call: Call) -> tuple[int, bytes]:
        """Send a call until it is answered; see `fetch` for what is raised."""
        failures = 0
        while True:
            try:
                return await self._try(call)
            except _FailedTryError as failed:
                failures += 1
                wait_s = self._patience.wait_s(failures, failed.retry_after_s)
                if wait_s is None or not (call.repeatable or failed.untouched):
                    raise failed.error from failed.__cause__
            await asyncio.sleep(wait_s)

    async def _try(self, call: Call) -> tuple[int, bytes]:
        try:
            async with self._opened().request(
                call.method,
                self.base_url + _PREFIX + call.path,
                params=call.params,
                json=call.body,
                timeout=aiohttp.ClientTimeout(total=self._timeout_s + call.wait_s),
                allow_redirects=False,
            ) as response:
                return self._judge(call, response, await response.read())
        except _UNSENT as error:
            reason = f"No Dataloader answers at {self.base_url} ({_reason(error)})"
            raise _FailedTryError(UnreachableError(reason, url=self.base_url), untouched=True) from error
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise InvalidError(f"{self.base_url} is not an http or https address") from error
        except (aiohttp.ClientError, OSError) as error:
            reason = f"{self._show(call)} got no answer ({_reason(error)}){_doubt(call)}"
            raise _FailedTryError(UnavailableError(reason, url=self.base_url)) from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is not None:
            return self._session
        if self._own is None:
            self._own = aiohttp.ClientSession(headers={"User-Agent": f"dataloader/{version('dataloader')}"})
        return self._own

    def _judge(self, call: Call, response: aiohttp.ClientResponse, body: bytes) -> tuple[int, bytes]:
        if response.status < 300:
            return response.status, body
        error = error_from(response.status, body, request=self._show(call))
        if not isinstance(error, UnavailableError):
            raise error
        wait_s = parse_retry_after(response.headers.get("Retry-After"))
        raise _FailedTryError(error, untouched=response.status == _TOO_MANY, retry_after_s=wait_s)

    def _show(self, call: Call) -> str:
        return f"{call.method} {self.base_url}{_PREFIX}{call.path}"


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else error.os_error.strerror or str(error.os_error)
    return "time is up" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _doubt(call: Call) -> str:
    return "" if call.repeatable else "; whether it was carried out is unknown"
