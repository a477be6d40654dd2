"""What operators see of a process: health, readiness, metrics, and what every answer carries."""

from __future__ import annotations

import time

import pytest

from dataloader.api.app import create_app
from dataloader.storage.db import Connection as Pg
from tests.api.scene import Scene, make_registry

STATUS_KEYS = {"version", "uptime_s", "process_id", "ready", "database", "listener", "workers"}


async def test_health_touches_no_database_and_answers_within_20_ms(scene: Scene) -> None:
    assert min([await _health_p99_s(scene) for _ in range(3)]) < 0.02
    assert "Connections in pool: 0" in scene.ctx.engine.pool.status()


async def _health_p99_s(scene: Scene) -> float:
    """Return the 99th percentile of a round; several rounds, because a test does not have the machine for itself."""
    took: list[float] = []
    for _ in range(200):
        started = time.perf_counter()
        answer = await scene.client.get("/health")
        took.append(time.perf_counter() - started)
        assert answer.json() == {"status": "ok"}
    return sorted(took)[int(len(took) * 0.99)]


async def test_status_says_ready_with_version_and_uptime(scene: Scene) -> None:
    answer = await scene.client.get("/status")

    assert answer.status_code == 200
    assert set(answer.json()) == STATUS_KEYS
    assert answer.json()["ready"] is True
    assert answer.json()["database"]["schema_version"] == answer.json()["database"]["schema_needed"]
    assert answer.json()["workers"] is None


async def test_status_says_not_ready_when_the_schema_is_older(scene: Scene, pg: Pg) -> None:
    await pg.execute("update dl_alembic_version set version_num = '0000'")
    other = await scene.client.get("/status")
    await pg.execute("alter table dl_alembic_version rename to hidden")
    none = await scene.client.get("/status")
    await pg.execute("alter table hidden rename to dl_alembic_version")
    await pg.execute("update dl_alembic_version set version_num = $1", other.json()["database"]["schema_needed"])

    assert (other.status_code, none.status_code) == (503, 503)
    assert "dataloader migrate" in other.json()["database"]["problem"]
    assert "dataloader migrate" in none.json()["database"]["problem"]


async def test_status_shows_the_workers_of_the_process(scene: Scene) -> None:
    app = create_app(scene.ctx, registry=make_registry(), worker_facts=lambda: {"running": 3})
    scene.app.state.services = app.state.services

    assert (await scene.client.get("/status")).json()["workers"] == {"running": 3}


async def test_metrics_count_requests_by_route_and_show_the_queues(scene: Scene) -> None:
    job_id = await scene.trigger()
    await scene.trigger(available_at="2099-01-01T00:00:00Z")
    await scene.get(f"/jobs/{job_id}/status")
    await scene.client.get("/nope")

    lines = (await scene.client.get("/metrics")).text.splitlines()

    assert "dataloader_database_up 1.0" in lines
    assert 'dataloader_queue_jobs{queue="q",state="ready"} 1.0' in lines
    assert 'dataloader_queue_jobs{queue="q",state="waiting"} 1.0' in lines
    route = 'method="GET",route="/api/v1/jobs/{job_id}/status",status="200"'
    assert f"dataloader_http_requests_total{{{route}}} 1.0" in lines
    assert 'dataloader_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert not any("_created" in line for line in lines)
    assert str(job_id) not in "".join(lines)


async def test_a_given_request_id_is_echoed_and_a_silly_one_replaced(scene: Scene) -> None:
    given = await scene.client.get("/health", headers={"x-request-id": "abc-123"})
    silly = await scene.client.get("/health", headers={"x-request-id": "x" * 200})
    none = await scene.client.get("/nope")

    assert given.headers["x-request-id"] == "abc-123"
    assert len(silly.headers["x-request-id"]) == 32
    assert none.json()["request_id"] == none.headers["x-request-id"]


async def test_every_answer_forbids_sniffing_and_framing(scene: Scene) -> None:
    for path in ("/health", "/nope", "/docs", "/api/v1/jobs"):
        headers = (await scene.client.get(path)).headers
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


async def test_head_is_get_without_a_body_and_options_says_what_is_allowed(scene: Scene) -> None:
    head = await scene.client.head("/health")
    options = await scene.client.options("/api/v1/jobs/trigger")

    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "15")
    assert (options.status_code, options.headers["allow"]) == (204, "POST")


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
async def test_the_pages_load_nothing_from_elsewhere(scene: Scene, path: str) -> None:
    answer = await scene.client.get(path)

    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "src=" not in answer.text
    assert "http://" not in answer.text.replace("http://127.0.0.1", "")


async def test_an_unforeseen_error_shows_nothing_of_its_inside(scene: Scene, pg: Pg) -> None:
    await pg.execute("alter table dl_workers add column secret_column text")
    await pg.execute("alter table dl_workers alter column queues type text")
    try:
        await pg.execute(
            "insert into dl_workers (worker_id, host, pid, version, queues, tasks, expires_at)"
            " values (gen_random_uuid(), 'h', 7, 'v', 's3cret-value', '{}', now())"
        )
        answer = await scene.get("/workers")
    finally:
        await pg.execute("truncate dl_workers")
        await pg.execute("alter table dl_workers drop column secret_column")
        await pg.execute("alter table dl_workers alter column queues type jsonb using queues::jsonb")

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    for inside in ("s3cret", "Traceback", "asyncpg", "select", "dl_workers"):
        assert inside not in answer.text
