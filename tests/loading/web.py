"""A web server that serves one file in as many bad ways as there are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Web:
    """What is served under `/file`, and how.

    Attributes:
        body: The file.
        etag: Its version, None for none.
        ranges: Whether ranges are answered.
        cut_after: Bytes after which each answer breaks off, None to send all.
        failures: Answers with status 503 before the first good one.
        claims: A length to claim instead of the real one.
        chunked: Whether to send it without a length.
        asked: The ranges asked for, None for the whole file.
        change_after: Answers after which the file is another one.
        late: Bytes by which a range begins later than asked.
        encoding: How the body is packed, as Content-Encoding says.
        surplus: What is sent behind a file that is sent without a length.
        who: What each request said of who asks, None for nothing.
    """

    body: bytes = b""
    etag: str | None = '"v1"'
    ranges: bool = True
    cut_after: int | None = None
    failures: int = 0
    claims: int | None = None
    chunked: bool = False
    asked: list[str | None] = field(default_factory=list)
    change_after: int | None = None
    late: int = 0
    encoding: str | None = None
    surplus: bytes = b""
    who: list[str | None] = field(default_factory=list)
    url: str = ""

    async def file(self, request: web.Request) -> web.StreamResponse:
        """Answer with the file, or with what was asked to go wrong."""
        self.asked.append(request.headers.get("Range"))
        self.who.append(request.headers.get("Authorization"))
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        if self.change_after is not None and len(self.asked) > self.change_after:
            self.etag, self.body = '"v2"', self.body.replace(b"1", b"2")
        start = self._start(request)
        content = self.body[start:]
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(self.body) - 1}/{len(self.body)}"
        if self.etag:
            response.headers["ETag"] = self.etag
        if self.encoding:
            response.headers["Content-Encoding"] = self.encoding
        if not self.chunked:
            response.content_length = self.claims if self.claims is not None else len(content)
        await response.prepare(request)
        await response.write(content if self.cut_after is None else content[: self.cut_after])
        await response.write(self.surplus)
        cut = self.cut_after is not None and len(content) > self.cut_after
        if request.transport and (cut or self.claims is not None):
            request.transport.close()
        return response

    def _start(self, request: web.Request) -> int:
        asked = request.headers.get("Range")
        if not asked or not self.ranges:
            return 0
        return int(asked.removeprefix("bytes=").partition("-")[0]) + self.late


async def _redirect(request: web.Request) -> web.StreamResponse:
    headers = {"Location": request.query["to"]} if "to" in request.query else {}
    return web.Response(status=302, headers=headers)


@asynccontextmanager
async def serving(server: Web) -> AsyncIterator[Web]:
    """Serve on a port of this machine."""
    app = web.Application()
    app.router.add_get("/file", server.file)
    app.router.add_get("/redirect", _redirect)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"http://{host}:{port}"
    try:
        yield server
    finally:
        await runner.cleanup()
