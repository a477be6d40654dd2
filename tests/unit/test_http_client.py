"""The HTTP client against a real server on this machine; no test waits for a backoff."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import web
from yarl import URL

from dataloader.connectors.http import HttpClient
from dataloader.connectors.retry import Backoff, TransientSourceError, parse_retry_after
from dataloader.connectors.urls import show_url
from dataloader.exceptions import PermanentError, SourceError

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

AT_ONCE = Backoff(initial_s=0, max_s=0, jitter_s=0, retry_after_max_s=0)


@asynccontextmanager
async def serve(handler: Handler) -> AsyncIterator[str]:
    """Serve every path with `handler` and give the base address."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return await handler(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site.name
    finally:
        await runner.cleanup()


class Answers:
    """Gives its statuses in order, then 200, and counts."""

    def __init__(self, *statuses: int) -> None:
        self.left = list(statuses)
        self.count = 0

    async def __call__(self, request: web.Request) -> web.Response:
        self.count += 1
        return web.Response(status=self.left.pop(0) if self.left else 200, text="body")


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(backoff=AT_ONCE) as client:
        yield client


async def test_fetch_returns_the_body_and_says_who_asks(http: HttpClient) -> None:
    async def echo(request: web.Request) -> web.Response:
        return web.Response(text=f"{request.path_qs} {request.headers['User-Agent']} {request.headers['X-Key']}")

    async with serve(echo) as base:
        body = await http.fetch(f"{base}/a?b=1", params={"day": "01/04/2025"}, headers={"X-Key": "k"})

    path, agent, key = body.decode().split()
    assert (path, key) == ("/a?b=1&day=01/04/2025", "k")
    assert agent.startswith("dataloader/")


async def test_get_returns_status_headers_and_the_last_address(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/old":
            raise web.HTTPFound("/new")
        return web.Response(text="x", headers={"ETag": "7"})

    async with serve(handler) as base:
        response = await http.get(f"{base}/old")

    assert (response.status, response.headers["etag"], response.url) == (200, "7", f"{base}/new")


@pytest.mark.parametrize("status", [403, 408, 425, 429, 500, 502, 503, 504])
async def test_a_passing_failure_is_tried_again(http: HttpClient, status: int) -> None:
    answers = Answers(status, status, status)
    async with serve(answers) as base:
        assert await http.fetch(base) == b"body"

    assert answers.count == 4


async def test_a_source_that_stays_away_is_a_source_error_with_status(http: HttpClient) -> None:
    answers = Answers(503, 503)
    async with serve(answers) as base:
        with pytest.raises(SourceError, match="answered 503 Service Unavailable") as caught:
            await http.fetch(base, attempts=2)

    assert answers.count == 2
    assert caught.value.details["status"] == 503
    assert caught.value.code == "source"


@pytest.mark.parametrize("status", [400, 401, 404, 410, 451])
async def test_a_refusal_is_permanent_and_not_repeated(http: HttpClient, status: int) -> None:
    answers = Answers(status)
    async with serve(answers) as base:
        with pytest.raises(PermanentError, match=str(status)):
            await http.fetch(base)

    assert answers.count == 1


async def test_a_dropped_connection_is_tried_again(http: HttpClient) -> None:
    answers = Answers()

    async def handler(request: web.Request) -> web.StreamResponse:
        if not answers.count and request.transport is not None:
            request.transport.abort()
        return await answers(request)

    async with serve(handler) as base:
        assert await http.fetch(base) == b"body"


async def test_a_body_cut_short_is_tried_again(http: HttpClient) -> None:
    calls: list[str] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        calls.append(request.path)
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await response.prepare(request)
        await response.write(b"12345" if len(calls) == 1 else b"1234567890")
        if len(calls) == 1 and request.transport is not None:
            request.transport.close()
        return response

    async with serve(handler) as base:
        assert await http.fetch(base) == b"1234567890"

    assert len(calls) == 2


async def test_a_machine_that_refuses_connections_is_a_source_error(http: HttpClient) -> None:
    async with serve(Answers()) as base:
        pass

    with pytest.raises(SourceError, match=r"GET http://127.0.0.1:\d+"):
        await http.fetch(base, attempts=2)


async def test_a_silent_source_is_given_up_after_the_timeout(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        return web.Response()

    async with serve(handler) as base:
        with pytest.raises(SourceError, match=r"no whole answer within 0\.05 s"):
            await http.fetch(base, timeout_s=0.05, attempts=2)


async def test_a_source_that_drips_is_given_up_after_the_timeout(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x")
        await asyncio.Event().wait()
        return response

    async with serve(handler) as base:
        with pytest.raises(SourceError, match="no whole answer"):
            await http.fetch(base, timeout_s=0.05, attempts=1)


async def test_a_body_of_exactly_the_limit_is_accepted_and_one_byte_more_refused(http: HttpClient) -> None:
    answers = Answers()
    async with serve(answers) as base:
        assert await http.fetch(base, max_bytes=4) == b"body"
        with pytest.raises(PermanentError, match="more than 3 bytes"):
            await http.fetch(base, max_bytes=3)

    assert answers.count == 2


async def test_the_limit_counts_bytes_after_decompression(http: HttpClient) -> None:
    bomb = gzip.compress(bytes(8 * 1024 * 1024))

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    async with serve(handler) as base:
        assert len(bomb) < 100_000
        with pytest.raises(PermanentError, match="more than 100000 bytes"):
            await http.fetch(base, max_bytes=100_000)


async def test_five_redirects_are_followed_and_six_are_not(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        left = int(request.path.strip("/"))
        if left:
            raise web.HTTPFound(f"/{left - 1}")
        return web.Response(text="there")

    async with serve(handler) as base:
        assert await http.fetch(f"{base}/5") == b"there"
        with pytest.raises(SourceError, match="redirected more than 5 times"):
            await http.fetch(f"{base}/6")


async def test_a_redirect_out_of_http_is_permanent(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        raise web.HTTPFound("file:///etc/passwd")

    async with serve(handler) as base:
        with pytest.raises(PermanentError, match="redirected"):
            await http.fetch(base)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/y", "/relative", "http://", "http://[", "", "data:,x"])
async def test_only_absolute_http_addresses_are_fetched(http: HttpClient, url: str) -> None:
    with pytest.raises(PermanentError):
        await http.fetch(url)


class Crowd:
    """Holds requests until `size` are there, and remembers how many were there at most."""

    def __init__(self, size: int) -> None:
        self.size, self.now, self.most = size, 0, 0
        self.full = asyncio.Event()

    async def __call__(self, request: web.Request) -> web.Response:
        self.now += 1
        self.most = max(self.most, self.now)
        if self.now >= self.size:
            self.full.set()
        await self.full.wait()
        await asyncio.sleep(0)
        self.now -= 1
        return web.Response(text="x")


async def test_a_host_gets_no_more_requests_at_a_time_than_its_limit() -> None:
    crowd = Crowd(2)
    async with serve(crowd) as base, HttpClient(per_host=2, backoff=AT_ONCE) as http:
        async with asyncio.timeout(5):
            await asyncio.gather(*(http.fetch(base) for _ in range(8)))

    assert crowd.most == 2


async def test_hosts_do_not_wait_for_each_other() -> None:
    crowd = Crowd(2)
    async with serve(crowd) as one, serve(crowd) as other, HttpClient(per_host=1, backoff=AT_ONCE) as http:
        async with asyncio.timeout(5):
            await asyncio.gather(http.fetch(one), http.fetch(other))

    assert crowd.most == 2


async def test_waiting_for_a_turn_does_not_use_up_the_timeout() -> None:
    first, release = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/first":
            first.set()
            await release.wait()
        return web.Response(text="x")

    async with serve(handler) as base, HttpClient(per_host=1, backoff=AT_ONCE) as http, asyncio.TaskGroup() as group:
        group.create_task(http.fetch(f"{base}/first"))
        await first.wait()
        second = group.create_task(http.fetch(f"{base}/second", timeout_s=0.05, attempts=1))
        await asyncio.wait([second], timeout=0.1)
        release.set()

    assert second.result() == b"x"


async def test_cancelling_ends_the_request_and_frees_its_turn() -> None:
    arrived, left = asyncio.Event(), asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        if request.path != "/hang":
            return web.Response(text="next")
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return web.Response()

    async with serve(handler) as base, HttpClient(per_host=1, backoff=AT_ONCE) as http:
        hanging = asyncio.ensure_future(http.fetch(f"{base}/hang"))
        await arrived.wait()
        hanging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hanging
        async with asyncio.timeout(5):
            await left.wait()
            assert await http.fetch(f"{base}/next") == b"next"


async def test_cookies_of_one_job_are_not_sent_by_another(http: HttpClient) -> None:
    seen: list[str | None] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Cookie"))
        response = web.Response(text="x")
        response.set_cookie("session", "secret")
        return response

    async with serve(handler) as base:
        await http.fetch(base.replace("127.0.0.1", "localhost"))
        await http.fetch(base.replace("127.0.0.1", "localhost"))

    assert seen == [None, None]


async def test_errors_show_neither_password_nor_secret_parameters(http: HttpClient) -> None:
    async with serve(Answers(404)) as base:
        url = base.replace("//", "//user:pa55word@") + "/rates?api_key=k3y&day=01"
        with pytest.raises(PermanentError) as caught:
            await http.fetch(url, params={"X-Amz-Signature": "s1gn"})

    text = f"{caught.value!r} {caught.value.details} {caught.value.__cause__}"
    assert "day=01" in text
    assert not any(secret in text for secret in ("pa55word", "k3y", "s1gn"))


async def test_errors_of_the_connection_show_no_secret_either(http: HttpClient) -> None:
    async with serve(Answers()) as base:
        pass
    with pytest.raises(SourceError) as caught:
        await http.fetch(base.replace("//", "//user:pa55word@") + "/?token=t0ken", attempts=1)

    assert not any(secret in f"{caught.value!r}{caught.value.details}" for secret in ("pa55word", "t0ken"))
    assert caught.value.__cause__ is None


def test_a_shown_address_keeps_what_is_harmless() -> None:
    shown = show_url(URL("https://u:p@host/x y?date_req=01/04/2025&sig=abc#top"))

    assert shown == "https://u:***@host/x y?date_req=01/04/2025&sig=***"


@pytest.mark.parametrize("who", ["t0ken", "t0ken:", "t0ken:x-oauth-basic"])
def test_a_token_in_the_place_of_a_name_is_not_shown(who: str) -> None:
    assert show_url(URL(f"https://{who}@host/f.csv?jwt=t0ken&bearer=t0ken")).startswith("https://***")
    assert "t0ken" not in show_url(URL(f"https://{who}@host/f.csv?jwt=t0ken&bearer=t0ken"))


async def test_a_host_that_is_too_long_to_be_one_is_refused(http: HttpClient) -> None:
    with pytest.raises(PermanentError, match="cannot be fetched"):
        await http.fetch(f"http://{'a' * 64}.example/")


def test_a_source_that_asks_to_wait_is_obeyed_up_to_a_bound() -> None:
    backoff = Backoff(retry_after_max_s=60)

    assert backoff.judge(TransientSourceError("x", retry_after_s=7)) == 7
    assert backoff.judge(TransientSourceError("x", retry_after_s=3_600)) == 60
    assert backoff.judge(TransientSourceError("x")) is True
    assert backoff.judge(PermanentError("x")) is False


async def test_the_wait_asked_for_in_an_answer_reaches_the_retry(http: HttpClient) -> None:
    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "120"})

    async with serve(handler) as base:
        with pytest.raises(TransientSourceError) as caught:
            await http.fetch(base, attempts=2)

    assert caught.value.retry_after_s == 120


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0),
        (" 30 ", 30),
        ("Tue, 01 Apr 2025 12:00:10 GMT", 10),
        ("Tue, 01 Apr 2025 11:00:00 GMT", 0),
        ("9" * 5_000, float("inf")),
        ("-5", None),
        ("soon", None),
        ("Tue, 01 Apr 2025 12:00:10 +99999999999999999", None),
        ("²", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, wait_s: float | None) -> None:
    assert parse_retry_after(value, now=datetime(2025, 4, 1, 12, tzinfo=UTC)) == wait_s


async def test_closing_twice_is_fine_and_a_closed_client_says_so() -> None:
    async with HttpClient() as http:
        await http.close()
        with pytest.raises(RuntimeError, match="not open"):
            await http.fetch("http://127.0.0.1:1/")
