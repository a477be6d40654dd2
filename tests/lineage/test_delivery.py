"""Events of lineage reach a file or a receiver, in order, and only of what was committed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from aiohttp import web

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from dataloader.domain.lineage import run_id
from dataloader.storage.db import Connection, connect
from dataloader.storage.queries import load_queries
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.workers.harness import enqueue, eventually, finished, running_service

Event = dict[str, Any]


class Receiver:
    """Takes events; answers with `answers` first, then with 201."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []
        self.tokens: set[str | None] = set()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Take one event."""
        self.tokens.add(request.headers.get("Authorization"))
        if self.answers:
            status = self.answers.pop(0)
            return web.Response(status=status, headers={"Location": "/elsewhere"} if status == 307 else {})
        self.events.append(await request.json())
        return web.Response(status=201)


@asynccontextmanager
async def receiving(*answers: int) -> AsyncIterator[Receiver]:
    """Serve a receiver on a free port."""
    receiver = Receiver(*answers)
    app = web.Application()
    app.router.add_post("/api/v1/lineage", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1/lineage"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def is_over(events: list[Event]) -> bool:
    """Return whether the end of a run has been told."""
    return any(event["eventType"] in {"COMPLETE", "FAIL", "ABORT"} for event in events)


async def load(pg: Connection, settings: Settings, path: Path, told: Callable[[], list[Event]]) -> UUID:
    """Run one load, and wait until its end has been told."""
    load_all()
    async with running_service(settings, REGISTRY):
        await eventually(lambda: _marked(pg))
        args = {"source": str(path), "table": "t", "columns": {"n": "int"}}
        (job_id,) = await enqueue(pg, settings, NewJob("load.file", "load.file", args, max_attempts=1))
        await finished(pg, [job_id])

        async def over() -> bool:
            return is_over(told())

        await eventually(over)
    return job_id


async def _marked(pg: Connection) -> bool:
    return bool(await pg.fetchval("select 1 from dl_lineage"))


def settings_for(make_settings: Callable[..., Settings], folder: Path, url: str, **more: object) -> Settings:
    """Return settings with lineage to `url`."""
    workers = '[{"queue": "load.file", "concurrency": 2}]'
    return make_settings(dl_source_roots=str(folder), workers_json=workers, dl_lineage_url=url, **more)


async def test_a_load_tells_its_start_and_its_end_with_rows_bytes_and_columns(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    path, out = tmp_path / "f.csv", tmp_path / "events.jsonl"
    path.write_text("n\n1\n2\n3\n")

    def told() -> list[Event]:
        return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []

    job_id = await load(pg, settings_for(make_settings, tmp_path, str(out)), path, told)

    events = told()
    assert [event["eventType"] for event in events if event["eventType"] != "RUNNING"] == ["START", "COMPLETE"]
    assert len({event["run"]["runId"] for event in events}) == 1
    assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in events} == {str(job_id)}
    (source,), (table,) = events[-1]["inputs"], events[-1]["outputs"]
    assert (source["namespace"], source["name"]) == ("file", str(path))
    assert source["inputFacets"]["inputStatistics"]["rowCount"] == 3
    assert table["name"].endswith(".public.t")
    assert table["facets"]["schema"]["fields"] == [{"name": "n", "type": "integer"}]
    assert table["outputFacets"]["outputStatistics"]["rowCount"] == 3


async def test_an_unload_reads_its_table_and_writes_its_directory(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    await pg.execute("create table t (n int primary key); insert into t values (1), (2)")
    load_all()
    async with receiving() as receiver:
        settings = make_settings(
            workers_json='[{"queue": "unload.table", "concurrency": 1}]',
            dl_target_roots=str(tmp_path),
            dl_lineage_url=receiver.url,
        )
        async with running_service(settings, REGISTRY):
            await eventually(lambda: _marked(pg))
            args = {"table": "t", "target": str(tmp_path / "out")}
            await finished(pg, await enqueue(pg, settings, NewJob("unload.table", "unload.table", args)))

            async def over() -> bool:
                return is_over(receiver.events)

            await eventually(over)

    (source,), (written,) = receiver.events[-1]["inputs"], receiver.events[-1]["outputs"]
    assert source["name"].endswith("public.t")
    assert (written["namespace"], written["name"]) == ("file", str(tmp_path / "out"))
    assert written["outputFacets"]["outputStatistics"]["rowCount"] == 2


async def test_a_process_that_stops_lets_the_next_one_go_on_at_once(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    async with receiving() as receiver:
        async with running_service(settings_for(make_settings, tmp_path, receiver.url), REGISTRY):
            await eventually(lambda: _marked(pg))

        assert await pg.fetchval("select held_until <= clock_timestamp() from dl_lineage")


async def test_events_wait_for_a_receiver_that_fails_or_redirects_and_arrive_once(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("n\nx\n")

    async with receiving(500, 307) as receiver:
        settings = settings_for(make_settings, tmp_path, receiver.url, dl_lineage_token="t0ken")
        await load(pg, settings, path, lambda: receiver.events)

    assert [event["eventType"] for event in receiver.events] == ["START", "FAIL"]
    assert "line 2" in receiver.events[-1]["run"]["facets"]["errorMessage"]["message"]
    assert receiver.tokens == {"Bearer t0ken"}


async def test_two_workers_tell_each_event_once(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("n\n1\n")

    async with receiving() as receiver:
        settings = settings_for(make_settings, tmp_path, receiver.url)
        load_all()
        async with running_service(settings, REGISTRY):
            await load(pg, settings, path, lambda: receiver.events)

    kinds = [event["eventType"] for event in receiver.events if event["eventType"] != "RUNNING"]
    assert kinds == ["START", "COMPLETE"]


async def test_what_was_not_delivered_before_a_crash_is_delivered_by_the_next_process(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    path = tmp_path / "f.csv"
    path.write_text("n\n1\n")
    load_all()

    async with receiving() as receiver:
        away = settings_for(make_settings, tmp_path, "http://127.0.0.1:9/")
        async with running_service(away, REGISTRY):
            await eventually(lambda: _marked(pg))
            args = {"source": str(path), "table": "t"}
            (job_id,) = await enqueue(pg, away, NewJob("load.file", "load.file", args, max_attempts=1))
            await finished(pg, [job_id])
        await pg.execute("update dl_lineage set held_until = clock_timestamp()")

        async with running_service(settings_for(make_settings, tmp_path, receiver.url), REGISTRY):

            async def over() -> bool:
                return is_over(receiver.events)

            await eventually(over)

    runs = {event["run"]["runId"] for event in receiver.events}
    assert runs == {str(run_id(job_id, 1))}
    assert [receiver.events[0]["eventType"], receiver.events[-1]["eventType"]] == ["START", "COMPLETE"]


async def test_the_mark_does_not_pass_an_event_that_is_not_committed_yet(
    make_settings: Callable[..., Settings], pg: Connection
) -> None:
    settings = make_settings()
    sql = load_queries(settings.pg_schema)
    ours, event = (
        uuid4(),
        "insert into dl_job_events (job_id, kind, status, epoch, attempt) values ($1, 'x', 'x', 0, 0)",
    )
    other = await connect(settings, purpose="test")
    try:
        await pg.fetchrow(sql.lineage_take, ours, 60.0)
        async with other.transaction():
            await other.execute(event, uuid4())
            await pg.execute(event, uuid4())
            safe = [await _moved(pg, ours) for _ in range(3)]
        after = [await _moved(pg, ours) for _ in range(3)]
    finally:
        await other.close()

    assert max(safe) == 0
    assert max(after) == await pg.fetchval("select max(event_id) from dl_job_events")


async def _moved(pg: Connection, holder: UUID) -> int:
    """Take a turn as if a second had passed; return the mark."""
    await pg.execute("update dl_lineage set mark_at = mark_at - interval '2 seconds'")
    row = await pg.fetchrow(load_queries("public").lineage_take, holder, 60.0)
    assert row is not None
    return int(row["safe_id"])
