"""Whatever comes in, the answer is a clear 4xx and nothing is half done."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.storage.db import Connection as Pg
from tests.api.scene import API, Scene

JOB: dict[str, object] = {"queue": "q", "task": "any.echo"}
JSON = {"content-type": "application/json"}


async def _post(scene: Scene, body: str | bytes, path: str = "/jobs/trigger", **headers: str) -> tuple[int, str, str]:
    answer = await scene.client.post(f"{API}{path}", content=body, headers=JSON | headers)
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    field = problem["errors"][0]["field"] if problem["errors"] else ""
    return answer.status_code, problem["code"], field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"unknown": 1}, "unknown"),
        ({"queue": 7}, "queue"),
        ({"queue": None}, "queue"),
        ({"queue": ""}, "queue"),
        ({"queue": "Upper"}, "queue"),
        ({"queue": "q\n"}, "queue"),
        ({"queue": "q" * 64}, "queue"),
        ({"queue": "é"}, "queue"),
        ({"task": "a b"}, "task"),
        ({"task": "nobody.knows"}, "task"),
        ({"args": []}, "args"),
        ({"args": "x"}, "args"),
        ({"args": None}, "args"),
        ({"args": {"big": "x" * 1_048_576}}, "args"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "k" * 300}, "idempotency_key"),
        ({"lock_key": "ü" * 128}, "lock_key"),
        ({"partition_key": 5}, "partition_key"),
        ({"priority": 32_768}, "priority"),
        ({"priority": -32_769}, "priority"),
        ({"priority": 2**70}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 101}, "max_attempts"),
        ({"max_losses": 0}, "max_losses"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"timeout_s": 1e308}, "timeout_s"),
        ({"stall_timeout_s": "5"}, "stall_timeout_s"),
        ({"available_at": "2025-01-01T00:00:00"}, "available_at"),
        ({"available_at": "2025-01-01"}, "available_at"),
        ({"available_at": "0000-01-01T00:00:00Z"}, "available_at"),
        ({"available_at": "0001-01-01T00:00:00+01:00"}, "available_at"),
        ({"available_at": "10000-01-01T00:00:00Z"}, "available_at"),
        ({"available_at": "9999-12-31T23:59:59-01:00"}, "available_at"),
        ({"available_at": "2025-02-30T00:00:00Z"}, "available_at"),
        ({"available_at": "infinity"}, "available_at"),
        ({"available_at": 1_700_000_000}, "available_at"),
        ({"labels": {"a": 1}}, "labels.a"),
        ({"labels": {"a b": "1"}}, "labels.a b.[key]"),
        ({"labels": {f"l{n}": "" for n in range(65)}}, "labels"),
        ({"labels": []}, "labels"),
    ],
)
async def test_a_wrong_field_is_422_with_field_and_reason(
    scene: Scene, pg: Pg, change: dict[str, object], field: str
) -> None:
    status, _, named = await _post(scene, json.dumps(JOB | change))

    assert (status, named) == (422, field)
    assert await pg.fetchval("select count(*) from dl_jobs") == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"queue": "q", "task": "any.echo", "args": {"a": NaN}}', "args.a"),
        ('{"queue": "q", "task": "any.echo", "args": {"a": [1, -Infinity]}}', "args.a.1"),
        ('{"queue": "q", "task": "any.echo", "timeout_s": Infinity}', "timeout_s"),
        ('{"queue": "q", "task": "any.echo", "args": {"a": 1e999}}', "args.a"),
        ('{"queue": "q", "task": "any.echo", "args": {"a": "x\\u0000"}}', "args.a"),
        ('{"queue": "q", "task": "any.echo", "args": {"x\\u0000": 1}}', "args"),
        ('{"queue": "q", "task": "any.echo", "lock_key": "\\u0000"}', "lock_key"),
        ('{"queue": "q", "task": "any.echo", "args": {"a": "\\ud800"}}', "args.a"),
        ('{"queue": "q", "task": "any.echo", "labels": {"a": "\\udc00\\ud83d"}}', "labels.a"),
        ('{"queue": "q", "task": "any.echo", "queue": "r"}', "queue"),
        ('{"queue": "q", "task": "any.echo", "args": {"a": {"b": 1, "b": 2}}}', "b"),
    ],
)
async def test_what_could_not_be_stored_is_422_and_named(scene: Scene, body: str, field: str) -> None:
    status, _, named = await _post(scene, body)

    assert (status, named) == (422, field)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"nothing", b'{"queue": "q",}', b"\xff\xfe", '{"queue": "ü"}'.encode("latin-1"),
        json.dumps(JOB).encode("utf-16"), json.dumps(JOB).encode("utf-32"), b"[]", b"null", b"7", b'"text"',
        b'{"queue": "q\x00", "task": "any.echo"}', b'{"queue": "q\n", "task": "any.echo"}', b"{'queue': 'q'}",
        json.dumps(JOB).encode() + b"{}", b'{"queue": "q", "task": "any.echo", "priority": ' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
async def test_broken_json_and_other_encodings_are_400_or_422(scene: Scene, body: bytes) -> None:
    status, _, _ = await _post(scene, body)

    assert status in {400, 422}


async def test_a_byte_order_mark_is_let_pass(scene: Scene) -> None:
    answer = await scene.client.post(
        f"{API}/jobs/trigger", content=b"\xef\xbb\xbf" + json.dumps(JOB).encode(), headers=JSON
    )

    assert answer.status_code == 201


@pytest.mark.parametrize("opening", ['{"a":', "["])
async def test_ten_thousand_levels_are_refused(scene: Scene, opening: str) -> None:
    closing = "}" if opening.startswith("{") else "]"
    body = f'{{"queue": "q", "task": "any.echo", "args": {{"a": {opening * 10_000}1{closing * 10_000}}}}}'

    assert (await _post(scene, body))[0] == 422
    assert (await _post(scene, opening * 10_000))[0] in {400, 422}


async def test_sixty_four_levels_pass_and_one_more_does_not(scene: Scene) -> None:
    def nested(levels: int) -> str:
        inner = levels - 2
        return f'{{"queue": "q", "task": "any.echo", "args": {{"a": {"[" * inner}1{"]" * inner}}}}}'

    answer = await scene.client.post(f"{API}/jobs/trigger", content=nested(64), headers=JSON)

    assert answer.status_code == 201
    assert (await _post(scene, nested(65)))[0] == 422


async def test_wide_numbers_arrive_as_they_were_sent(scene: Scene) -> None:
    args = {"big": 2**100, "small": -(2**63) - 1, "float": 1.7976931348623157e308, "tiny": 5e-324, "third": 0.1}

    job_id = await scene.trigger(args=args)

    arrived = (await scene.get(f"/jobs/{job_id}")).json()["args"]
    assert {name: float(value) if name == "float" else value for name, value in arrived.items()} == args


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/x-www-form-urlencoded"}, 415),
        ({"content-type": ""}, 415),
        ({"content-type": "application/json; charset=latin-1"}, 415),
        ({"content-type": "application/json; charset=utf-16"}, 415),
        ({"content-encoding": "gzip"}, 415),
    ],
)
async def test_another_type_or_encoding_is_415(scene: Scene, headers: dict[str, str], status: int) -> None:
    assert (await _post(scene, json.dumps(JOB), **headers))[0] == status


@pytest.mark.parametrize("kind", ["application/json; charset=UTF-8", "application/merge-patch+json"])
async def test_every_spelling_of_json_is_taken(scene: Scene, kind: str) -> None:
    answer = await scene.client.post(f"{API}/jobs/trigger", content=json.dumps(JOB), headers={"content-type": kind})

    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["trigger", "trigger/bulk"])
@pytest.mark.parametrize("body", ["[1]", "null", "7", '"text"'])
async def test_json_that_is_no_object_is_422_and_names_no_class_of_ours(scene: Scene, path: str, body: str) -> None:
    answer = await scene.client.post(f"{API}/jobs/{path}", content=body, headers=JSON)

    assert (answer.status_code, answer.json()["detail"]) == (422, "body: Input should be an object")


async def test_a_body_over_8_mib_is_413_whether_announced_or_not(scene: Scene) -> None:
    big = json.dumps({"jobs": [JOB | {"args": {"a": "x" * 900_000}}] * 10})

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b"x" * 1_048_576

    announced = await scene.client.post(f"{API}/jobs/trigger/bulk", content=big, headers=JSON)
    chunked = await scene.client.post(f"{API}/jobs/trigger/bulk", content=chunks(), headers=JSON)

    assert (announced.status_code, announced.json()["code"]) == (413, "body_too_large")
    assert chunked.status_code == 413


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "0"}, {"limit": "501"}, {"limit": "x"}, {"cursor": "nonsense"}, {"cursor": "é" * 20},
        {"status": "done"}, {"queue": "Q"}, {"task": "\x00"}, {"lock_key": "\x00"}, {"lock_key": "k" * 300},
        {"label": "novalue"}, {"label": "a=\x00"}, {"created_after": "yesterday"}, {"created_before": "2025-01-01"},
        {"unknown": "1"}, {"created_after": "0000-01-01T00:00:00Z"},
    ],
)  # fmt: skip
async def test_a_wrong_query_is_422_and_named(scene: Scene, query: dict[str, str]) -> None:
    answer = await scene.get("/jobs", **query)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"].split(".")[0] == next(iter(query))


async def test_unknown_paths_and_methods_are_problems_too(scene: Scene) -> None:
    missing = await scene.client.get("/api/v1/nope")
    method = await scene.client.delete(f"{API}/jobs/trigger")

    assert (missing.status_code, missing.json()["code"]) == (404, "no_such_path")
    assert (method.status_code, method.json()["code"], method.headers["allow"]) == (405, "method_not_allowed", "POST")


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=()))
    | st.sampled_from(["q", "any.echo", "demo.load", "load.demo", "2030-01-01T00:00:00Z"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_FIELDS = st.sampled_from(
    ["queue", "task", "args", "idempotency_key", "lock_key", "partition_key", "priority", "available_at",
     "max_attempts", "max_losses", "timeout_s", "stall_timeout_s", "labels", "other"]
)  # fmt: skip
_REQUESTS = st.dictionaries(_FIELDS, _VALUES, max_size=8).map(lambda fields: JOB | fields) | _VALUES


async def _search(check: Callable[[object], Awaitable[None]], examples: st.SearchStrategy[object]) -> None:
    """Let Hypothesis, which is not asynchronous, search in a thread and run each example on this loop."""
    loop = asyncio.get_running_loop()

    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(examples)
    def search(example: object) -> None:
        asyncio.run_coroutine_threadsafe(_checked(check, example), loop).result(20)

    await asyncio.to_thread(search)


async def _checked(check: Callable[[object], Awaitable[None]], example: object) -> None:
    await check(example)


async def test_no_json_whatever_makes_the_service_fail(scene: Scene) -> None:
    async def post(request: object) -> None:
        body = json.dumps(request).encode("utf-8", "surrogatepass")
        for path in ("trigger", "trigger/bulk"):
            content = body if path == "trigger" else b'{"jobs": [%b]}' % body
            answer = await scene.client.post(f"{API}/jobs/{path}", content=content, headers=JSON)
            assert answer.status_code < 500, (request, answer.text)

    await _search(post, _REQUESTS)


async def test_no_bytes_whatever_make_the_service_fail(scene: Scene) -> None:
    async def post(body: object) -> None:
        assert isinstance(body, bytes)
        answer = await scene.client.post(f"{API}/jobs/trigger", content=body, headers=JSON)
        assert answer.status_code < 500, (body, answer.text)

    await _search(post, st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode()))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "http://test"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://test"}, 200),
        ({"origin": "https://public.example", "sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({}, 200),
    ],
)
async def test_a_page_of_another_site_changes_nothing(scene: Scene, headers: dict[str, str], status: int) -> None:
    await scene.trigger()

    answer = await scene.client.post(f"{API}/queues/q/pause", headers=headers)
    queues = (await scene.client.get(f"{API}/queues", headers=headers)).json()["queues"]

    assert answer.status_code == status
    assert answer.json().get("code") == ("foreign_page" if status == 403 else None)
    assert [queue["paused"] for queue in queues if queue["queue"] == "q"] == [status == 200]
