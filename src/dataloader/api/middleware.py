"""Around every request: its id, a log line, measurements, safe headers, an answer to whatever was not foreseen."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from http import HTTPStatus
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dataloader.api.errors import foreign, headers_too_large, internal
from dataloader.context import AppContext
from dataloader.logger import bind_request

CLIENT_CLOSED_REQUEST = 499
"""What proxies call a request whose client went away before the answer; it stands in logs and metrics only."""

HEADERS_LIMIT_BYTES = 64 * 1024
"""Limit of all names and values of the headers together."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_HARMLESS = {"GET", "HEAD", "OPTIONS"}
_OWN_SITE = {b"same-origin", b"none"}
_QUIET = {"/health", "/metrics", "/status"}
_SAFE_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


class RequestMiddleware:
    """Pure ASGI; the outermost part of the application.

    Args:
        app: What is inside.
        context: Returns the process's context, which may be opened after the application was built.
    """

    def __init__(self, app: ASGIApp, *, context: Callable[[], AppContext]) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send)
        with bind_request(exchange.request_id):
            try:
                with self._context().metrics.http_request_in_progress():
                    await self._answer(exchange)
            finally:
                self._record(exchange)

    async def _answer(self, exchange: _Exchange) -> None:
        try:
            await self._inside(exchange)(exchange.scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.disconnected = True
        except Exception:
            self._context().loggers.app.exception("request failed", route=exchange.route)
            if exchange.status is not None:
                raise
            answer = internal(exchange.request_id, exchange.scope["path"])
            await answer(exchange.scope, exchange.receive, exchange.send)

    def _inside(self, exchange: _Exchange) -> ASGIApp:
        scope = exchange.scope
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADERS_LIMIT_BYTES:
            return headers_too_large(HEADERS_LIMIT_BYTES, exchange.request_id, scope["path"])
        if exchange.method not in _HARMLESS and _is_foreign(scope):
            return foreign(exchange.request_id, scope["path"])
        return self._app

    def _record(self, exchange: _Exchange) -> None:
        seconds = time.perf_counter() - exchange.started_s
        status = exchange.final_status
        method = exchange.method if exchange.method in _METHODS else "OTHER"
        ctx = self._context()
        ctx.metrics.http_request(method, exchange.route, status, seconds)
        log = ctx.loggers.app.debug if exchange.route in _QUIET else ctx.loggers.app.info
        log("request", method=method, route=exchange.route, status=status, ms=round(seconds * 1000, 1))


class _Exchange:
    """One request and its answer, as far as they have come."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.request_id = _given_id(scope) or uuid4().hex
        self.started_s = time.perf_counter()
        self.status: int | None = None
        self.disconnected = False
        # HEAD is GET without a body: routes need not know.
        self.scope: Scope = {
            **scope,
            "request_id": self.request_id,
            "method": "GET" if self.method == "HEAD" else self.method,
        }
        self._receive = receive
        self._send = send

    @property
    def route(self) -> str:
        """Template of the path, so that ids do not become labels."""
        path = getattr(self.scope.get("route"), "path", None)
        return path if isinstance(path, str) else "unmatched"

    @property
    def final_status(self) -> int:
        """Status for the log line."""
        if self.status is not None:
            return int(self.status)
        return CLIENT_CLOSED_REQUEST if self.disconnected else HTTPStatus.INTERNAL_SERVER_ERROR

    async def receive(self) -> Message:
        """Pass on what the client sends."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and self.status is None:
            self.disconnected = True
        return message

    async def send(self, message: Message) -> None:
        """Pass on what the client gets, with our headers and, for HEAD, without a body."""
        if message["type"] == "http.response.start":
            self.status = CLIENT_CLOSED_REQUEST if self.disconnected else message["status"]
            headers = MutableHeaders(scope=message)
            headers["x-request-id"] = self.request_id
            for name, value in _SAFE_HEADERS.items():
                headers.setdefault(name, value)
        elif message["type"] == "http.response.body" and self.method == "HEAD":
            message = {**message, "body": b""}
        await self._send(message)


def _is_foreign(scope: Scope) -> bool:
    """Return whether a browser sends this for a page of somebody else; what is no browser sends none of the headers."""
    site = origin = host = None
    for name, value in scope["headers"]:
        if name == b"sec-fetch-site":
            site = value
        elif name == b"origin":
            origin = value
        elif name == b"host":
            host = value
    if site is not None:
        return site not in _OWN_SITE
    return origin is not None and origin.partition(b"://")[2].lower() != (host or b"").lower()


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            return given if _REQUEST_ID.fullmatch(given) else None
    return None
