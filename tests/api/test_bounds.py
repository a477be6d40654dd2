"""What one request may cost: headers, bodies, the time they take, and what arguments may be."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import Request
from starlette.types import Message

from dataloader.api.app import create_app
from dataloader.api.bodies import BodyTimeoutError, read_bounded
from dataloader.api.docs_page import render
from tests.api.scene import API, Scene

JSON = {"content-type": "application/json"}


async def test_headers_beyond_64_kib_are_431(scene: Scene) -> None:
    answer = await scene.client.get("/health", headers={f"x-{n}": "v" * 1000 for n in range(70)})

    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")
    assert answer.headers["connection"] == "close"


async def test_a_body_that_does_not_come_is_408() -> None:
    async def never() -> Message:
        return await asyncio.Future()

    request = Request({"type": "http", "method": "POST", "headers": []}, never)

    with pytest.raises(BodyTimeoutError) as caught:
        await read_bounded(request, limit_bytes=10, timeout_s=0.01)
    assert (caught.value.status, caught.value.code) == (408, "body_timeout")


@pytest.mark.parametrize("path", ["/jobs/trigger", "/jobs/trigger/bulk"])
async def test_a_body_may_not_be_larger_than_8_mib(scene: Scene, path: str) -> None:
    answer = await scene.client.post(f"{API}{path}", content=b"x" * (8 * 1024 * 1024 + 1), headers=JSON)

    assert answer.status_code == 413


async def test_the_limit_of_arguments_is_measured_in_utf_8(scene: Scene) -> None:
    fits = {"queue": "q", "task": "any.echo", "args": {"a": "ж" * 500_000}}
    beyond = {"queue": "q", "task": "any.echo", "args": {"a": "ж" * 524_288}}

    def raw(job: object) -> bytes:
        return json.dumps(job, ensure_ascii=False).encode()

    good = await scene.client.post(f"{API}/jobs/trigger", content=raw(fits), headers=JSON)
    bad = await scene.client.post(f"{API}/jobs/trigger", content=raw(beyond), headers=JSON)

    assert (good.status_code, bad.status_code) == (201, 422)


async def test_what_the_published_schema_refuses_the_model_may_not_accept(scene: Scene) -> None:
    args = {"day": "2025-04-01", "rows": "5"}

    answer = await scene.post("/jobs/trigger", {"queue": "load.demo", "task": "demo.load", "args": args})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "args.rows")


def test_code_is_shown_as_code() -> None:
    page = render(create_app().openapi())

    assert "`" not in page
    assert "<code>Retry-After</code>" in page
