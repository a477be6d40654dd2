"""Answers that mean "no", as the project's own errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from dataloader.exceptions import (
    ConflictError,
    DataloaderError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    RetryLater,
    UnavailableError,
)

_STANDARD_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "message"}
_SERVER_ERROR = 500
_BY_STATUS: Mapping[int, type[DataloaderError]] = {
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: UnavailableError,
}


class UnreachableError(UnavailableError):
    """Nothing answers at the service's address; the request was not sent."""

    code = "unreachable"


def error_from(status: int, body: bytes, *, request: str) -> DataloaderError:
    """Return the error that an answer stands for.

    Args:
        status: HTTP status, 400 or more.
        body: Problem details (RFC 9457), or whatever a proxy in between sent.
        request: Method and address, for a message when the body says nothing.
    """
    problem = _problem(body)
    kind = _kind(problem.get("code"), status)
    message = problem.get("detail") or problem.get("title")
    if not isinstance(message, str):
        return kind(f"{request} answered {status} without saying why; is this a Dataloader?", status=status)
    return kind(message, **{name: value for name, value in problem.items() if name not in _STANDARD_MEMBERS})


def _problem(body: bytes) -> Mapping[str, object]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _kind(code: object, status: int) -> type[DataloaderError]:
    for kind in _family(DataloaderError):
        if kind.code == code:
            return kind
    return _BY_STATUS.get(status, UnavailableError if status >= _SERVER_ERROR else InvalidError)


def _family(kind: type[DataloaderError]) -> Iterator[type[DataloaderError]]:
    """Yield a class and all below it, but for the one that is built differently and never travels."""
    yield kind
    for child in kind.__subclasses__():
        if child is not RetryLater:
            yield from _family(child)
