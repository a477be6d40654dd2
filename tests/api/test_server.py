"""The real server: binding, bodies as they come over the wire, clients that go away, and its end."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr

from dataloader.api.app import create_app
from dataloader.api.protocol import HEAD_LIMIT_BYTES
from dataloader.api.server import KEEP_ALIVE_S, ApiServer
from dataloader.base import supervise
from dataloader.config import Settings
from dataloader.exceptions import SettingsError
from tests.api.scene import API, Scene, until_waiting
from tests.storage.scene import until

JOB = b'{"queue": "q", "task": "any.echo"}'


@asynccontextmanager
async def serving(scene: Scene, *, keep_alive_s: int = KEEP_ALIVE_S) -> AsyncIterator[ApiServer]:
    """Serve the scene's application on a free port until the block ends."""
    server = ApiServer(scene.app, scene.ctx.settings, keep_alive_s=keep_alive_s)
    async with asyncio.TaskGroup() as group:
        group.create_task(supervise([server], scene.stop))
        await server.started.wait()
        yield server
        scene.stop.set()


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """Settings with any free port."""
    return make_settings(app_port=0)


async def _raw(port: int, request: bytes) -> bytes:
    """Send bytes and return all that comes until the server closes or a second has passed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    answer = b""
    try:
        async with asyncio.timeout(1):
            while data := await reader.read(65_536):
                answer += data
    except TimeoutError:
        pass
    writer.close()
    return answer


def _head(*headers: str) -> bytes:
    lines = [f"POST {API}/jobs/trigger HTTP/1.1", "host: x", "content-type: application/json", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def test_it_serves_on_the_port_it_was_given_and_says_which(scene: Scene) -> None:
    async with serving(scene) as server, httpx2.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{server.port}/health")

    assert server.port > 0
    assert answer.status_code == 200
    assert "server" not in answer.headers


async def test_a_port_that_is_taken_ends_it_with_one_sentence(
    scene: Scene, make_settings: Callable[..., Settings]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"^APP_PORT={port} on 127\.0\.0\.1: address already in use$"):
            await ApiServer(scene.app, make_settings(app_port=port)).run(asyncio.Event())


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1"])
async def test_a_host_that_is_not_here_ends_it_with_one_sentence(
    scene: Scene, make_settings: Callable[..., Settings], host: str
) -> None:
    settings = make_settings(app_host=host, app_port=0, dl_allow_anonymous=True)

    with pytest.raises(SettingsError, match=f"^APP_HOST={host}: "):
        await ApiServer(scene.app, settings).run(asyncio.Event())


async def test_a_long_poll_is_answered_at_once_when_the_server_stops(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with asyncio.timeout(4), asyncio.TaskGroup() as group, httpx2.AsyncClient() as client:
        async with serving(scene) as server:
            url = f"http://127.0.0.1:{server.port}{API}/jobs/{job_id}/status?wait=60"
            poll = group.create_task(client.get(url, timeout=10))
            await until_waiting(scene)
        answer = await poll

    assert (answer.status_code, answer.json()["status"]) == (200, "queued")


async def test_a_client_that_goes_away_leaves_nothing_waiting(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with asyncio.timeout(5), serving(scene) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {API}/jobs/{job_id}/status?wait=60 HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        await until_waiting(scene)
        writer.transport.abort()
        while scene.app.state.services.waiter.waiting:
            await asyncio.sleep(0.01)
        metrics = await scene.client.get("/metrics")

    assert 'status",status="499"} 1.0' in metrics.text


async def test_a_body_larger_than_allowed_is_413_however_it_comes(scene: Scene) -> None:
    chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    async with serving(scene) as server:
        announced = await _raw(server.port, _head("content-length: 9999999"))
        chunked = await _raw(server.port, _head("transfer-encoding: chunked") + chunk * 9 + b"0\r\n\r\n")

    assert announced.startswith(b"HTTP/1.1 413")
    assert chunked.startswith(b"HTTP/1.1 413")


async def test_lengths_that_lie_harm_nobody(scene: Scene) -> None:
    async with serving(scene) as server:
        longer = await _raw(server.port, _head(f"content-length: {len(JOB) - 5}", "connection: close") + JOB)
        shorter = await _raw(server.port, _head(f"content-length: {len(JOB) + 50}") + JOB)
        nonsense = await _raw(server.port, _head("content-length: many") + JOB)
        huge = await _raw(server.port, _head("content-length: " + "9" * 30) + JOB)
        after = await _raw(server.port, _head(f"content-length: {len(JOB)}", "connection: close") + JOB)

    assert longer.startswith(b"HTTP/1.1 400")
    assert shorter == b""
    assert nonsense.startswith(b"HTTP/1.1 400")
    assert huge.startswith((b"HTTP/1.1 413", b"HTTP/1.1 400"))
    assert after.startswith(b"HTTP/1.1 201")


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables that lead a process of its own to this test's database."""
    found = settings.model_dump(include={"pg_host", "pg_port", "pg_user", "pg_database", "dl_db_dsn", "dl_listen_dsn"})
    texts = {
        name: value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        for name, value in found.items()
        if value is not None
    }
    return {name.upper(): text for name, text in texts.items()}


async def test_the_factory_opens_and_runs_everything_itself(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    for name, value in _environment(settings).items():
        monkeypatch.setenv(name, value)
    app = create_app()

    client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")
    async with asyncio.timeout(10), app.router.lifespan_context(app), client:
        status = await client.get("/status")
        triggered = await client.post(f"{API}/jobs/trigger", json={"queue": "noop", "task": "noop"})
        url = f"{API}/jobs/{triggered.json().get('job_id')}"
        await client.post(f"{url}/cancel")
        ended = await client.get(f"{url}/status", params={"wait": "5"})

    assert status.json()["ready"] is True
    assert triggered.status_code == 201
    assert ended.json()["status"] == "canceled"


def test_the_factory_needs_nothing_to_be_imported() -> None:
    config = uvicorn.Config("dataloader.api.app:create_app", factory=True, log_config=None)

    config.load()

    assert config.loaded


async def test_under_uvicorn_a_sigterm_answers_long_polls_and_ends_the_process(scene: Scene, tmp_path: Path) -> None:
    job_id = await scene.trigger()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["-m", "uvicorn", "--factory", "dataloader.api.app:create_app", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=tmp_path, env=os.environ | _environment(scene.ctx.settings), stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(20), httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await _until_up(client)
            async with asyncio.TaskGroup() as group:
                poll = group.create_task(client.get(f"{API}/jobs/{job_id}/status", params={"wait": "60"}))
                await until(lambda: _answers_two(client))
                process.terminate()
            async with asyncio.timeout(5):
                await process.wait()
    finally:
        if process.returncode is None:
            process.kill()

    assert (poll.result().status_code, poll.result().json()["status"]) == (200, "queued")


async def _answers_two(client: httpx2.AsyncClient) -> bool:
    """Whether the server answers another request beside the one that asks."""
    return "\ndataloader_http_requests_in_progress 2.0\n" in (await client.get("/metrics")).text


async def _until_up(client: httpx2.AsyncClient) -> None:
    while True:
        try:
            await client.get("/health")
        except httpx2.ConnectError:
            await asyncio.sleep(0.05)
        else:
            return


async def test_headers_that_do_not_end_are_cut_off(scene: Scene) -> None:
    async with serving(scene) as server:
        many = await _raw(server.port, (_head()[:-2] + b"x-a: ").ljust(HEAD_LIMIT_BYTES + 1, b"y"))
        large = await _raw(server.port, b"GET /health HTTP/1.1\r\nhost: x\r\nx-a: " + b"y" * 70_000 + b"\r\n\r\n")

    assert many.startswith(b"HTTP/1.1 431 ")
    assert b"headers_too_large" in large


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /health HTT",
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /",
    ],
)
async def test_a_connection_without_a_request_is_closed(scene: Scene, said: bytes) -> None:
    async with serving(scene, keep_alive_s=1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(said)
        async with asyncio.timeout(4):
            await reader.read()
        writer.close()


async def test_a_request_that_waits_for_longer_than_a_connection_may_be_idle_is_answered(scene: Scene) -> None:
    job_id = await scene.trigger()

    async with serving(scene, keep_alive_s=1) as server, httpx2.AsyncClient() as client:
        url = f"http://127.0.0.1:{server.port}{API}/jobs/{job_id}/status"
        answers = [await client.get(url, params={"wait": wait}) for wait in ("1.5", "0")]

    assert [answer.status_code for answer in answers] == [200, 200]
