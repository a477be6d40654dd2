"""Reads JSON strictly: bounded, UTF-8 only, and nothing in it that could not be stored and told again."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from dataloader.exceptions import DataloaderError, InvalidError

BODY_LIMIT_BYTES = 8 * 1024 * 1024
BODY_TIMEOUT_S = 30.0
LARGE_BYTES = 256 * 1024
"""Bodies above this size are parsed in a thread, so that other requests are not held up."""

DEPTH_LIMIT = 64
_SUSPECT = re.compile(rb"\\u0000|\\u[dD][89a-fA-F]")
_BOM = b"\xef\xbb\xbf"


class BodyError(DataloaderError):
    """The body cannot be read at all.

    Attributes:
        status: The HTTP status that says why.
    """

    status = 400
    code = "bad_json"


class BodyTooLargeError(BodyError):
    """The body is larger than the limit, whatever its headers said."""

    status = 413
    code = "body_too_large"


class BodyTimeoutError(BodyError):
    """The body did not arrive in time."""

    status = 408
    code = "body_timeout"


class MediaTypeError(BodyError):
    """The body is something else than JSON in UTF-8."""

    status = 415
    code = "unsupported_media_type"


class StrictRoute(APIRoute):
    """A route whose body, if it takes one, is read strictly before FastAPI looks at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_first(request: Request) -> Response:
            body, value = await read_json(request)
            read = _ReadRequest(request.scope, request.receive)
            read.hold(body, value)
            return await handle(read)

        return read_first


class _ReadRequest(Request):
    """A request whose body has been read and parsed."""

    def hold(self, body: bytes, value: object) -> None:
        self._body = body
        self._value = value

    async def json(self) -> Any:
        return self._value


async def read_json(request: Request) -> tuple[bytes, object]:
    """Return a request's body, and the value of its JSON; None for an empty body.

    Raises:
        BodyError: It cannot be read at all.
        InvalidError: It holds what cannot be stored; the message names the field.
    """
    body = await read_bounded(request, limit_bytes=BODY_LIMIT_BYTES)
    if not body:
        return body, None
    _check_type(request)
    return body, parse(body) if len(body) <= LARGE_BYTES else await asyncio.to_thread(parse, body)


async def read_bounded(request: Request, *, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S) -> bytes:
    """Return a request's body.

    Raises:
        BodyTooLargeError: It is larger than the limit.
        BodyTimeoutError: It did not arrive in time.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit_bytes:
        _too_large(limit_bytes)
    try:
        async with asyncio.timeout(timeout_s):
            return await _collected(request, limit_bytes)
    except TimeoutError:
        raise BodyTimeoutError(f"The body did not arrive within {timeout_s:g} s") from None


async def _collected(request: Request, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size > limit_bytes:
            _too_large(limit_bytes)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(limit_bytes: int) -> NoReturn:
    raise BodyTooLargeError(f"The body is larger than {limit_bytes} bytes")


def _check_type(request: Request) -> None:
    if request.headers.get("content-type") == "application/json" and "content-encoding" not in request.headers:
        return
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise MediaTypeError("A compressed body is not accepted; send application/json as it is")
    message = Message()
    message["content-type"] = request.headers.get("content-type", "")
    kind = message.get_content_type()
    charset = str(message.get_param("charset", "utf-8")).lower()
    if not request.headers.get("content-type") or not re.fullmatch(r"application/([a-z0-9.+-]+\+)?json", kind):
        raise MediaTypeError("Send a body of type application/json")
    if charset not in {"utf-8", "utf8", "us-ascii"}:
        raise MediaTypeError("Send the body in UTF-8")


def parse(body: bytes) -> object:
    """Return the value of a JSON text.

    Raises:
        BodyError: It is not JSON in UTF-8.
        InvalidError: It holds what cannot be stored; the message names the field.
    """
    numbers = _Numbers()
    try:
        value = json.loads(
            body.removeprefix(_BOM).decode("utf-8"),
            parse_float=numbers.read,
            parse_constant=numbers.read,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        raise BodyError(f"The body is not JSON: {error.msg} at position {error.pos}") from None
    except UnicodeDecodeError as error:
        raise BodyError(f"The body is not UTF-8: {error.reason} at byte {error.start}") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise _invalid("", "holds a number of more than 4300 digits") from None
    if body.count(b"[") + body.count(b"{") > DEPTH_LIMIT:
        _check_depth(value)
    if numbers.strange or _SUSPECT.search(body):
        _check_values(value)
    return value


class _Numbers:
    """Reads numbers and remembers whether one of them is not finite; which field it is in is looked for afterwards."""

    def __init__(self) -> None:
        self.strange = False

    def read(self, text: str) -> float:
        value = float(text)
        self.strange = self.strange or not math.isfinite(value)
        return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        raise _invalid(counts.most_common(1)[0][0], "is given twice")
    return value


def _too_deep() -> InvalidError:
    return _invalid("", f"is nested deeper than {DEPTH_LIMIT} levels")


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(DEPTH_LIMIT):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _too_deep()


def _inside(value: object) -> list[object]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []


def _check_values(value: object) -> None:
    """Look at every name and value; only called for bodies with something suspect in them."""
    pending: list[tuple[str, object]] = [("", value)]
    while pending:
        path, current = pending.pop()
        match current:
            case str():
                _check_text(path, current)
            case float() if not math.isfinite(current):
                raise _invalid(path, "must be a finite number")
            case dict():
                for name, inner in current.items():
                    _check_text(path, name)
                    pending.append((f"{path}.{name}" if path else name, inner))
            case list():
                pending += [(f"{path}.{index}" if path else str(index), inner) for index, inner in enumerate(current)]


def _check_text(path: str, text: str) -> None:
    if "\x00" in text:
        raise _invalid(path, "must not contain NUL")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _invalid(path, "must not contain lone surrogates") from None


def _invalid(field: str, reason: str) -> InvalidError:
    shown = field.encode("utf-8", "replace").decode()[:200]
    return InvalidError(f"{shown or 'the body'} {reason}", errors=[{"field": shown, "reason": reason}])
