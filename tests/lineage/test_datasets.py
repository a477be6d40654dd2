"""What each pipeline reads and writes, as it is told, and that it is told by the rules."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dataloader.api.v1.schemas import JobChunkView
from dataloader.config import Settings
from dataloader.domain.datasets import Database
from dataloader.domain.jobs import NewJob
from dataloader.storage.db import Connection, own_database
from dataloader.testing.cbr_source import CbrStub
from dataloader.testing.sgx_source import SgxStub
from tests.conftest import direct_dsn
from tests.lineage.own_pipelines import QUEUE, make_registry
from tests.lineage.receiver import receiving
from tests.lineage.rules import Event, check_runs
from tests.workers.harness import enqueue, eventually, finished, running_service

DAY = dt.date(2026, 7, 16)
QUEUES = ("load.file", "load.sql", "unload.table", "load.sgx", "load.cbr", QUEUE)
TABLES = """
create table orders (order_id int primary key, placed_at date); insert into orders values (1, now()), (2, now());
create table empty (n int primary key);
create table "odd.name" (n bigint primary key); insert into "odd.name" values (0);
"""


async def runs(
    pg: Connection, folder: Path, settings: Settings, jobs: Mapping[str, NewJob]
) -> dict[str, tuple[list[Event], list[dict[str, Any]]]]:
    """Run jobs in one service; return by name the events of each, and what the HTTP interface shows of its chunks."""
    async with receiving() as receiver:
        settings = settings.model_copy(update={"dl_lineage_url": type(settings.pg_password)(receiver.url)})
        async with running_service(settings, make_registry(folder)):
            await eventually(lambda: pg.fetchval("select exists (select from dl_lineage)"))
            ids = await enqueue(pg, settings, *jobs.values())
            await finished(pg, ids, within_s=40)
            await receiver.hears(len(jobs) + 1)
    check_runs(receiver.events)
    told = {}
    for name, job_id in zip(jobs, ids, strict=True):
        own = [one for one in receiver.events if one["run"]["facets"]["parent"]["run"]["runId"] == str(job_id)]
        rows = await pg.fetch("select * from dl_chunks where job_id = $1 order by chunk_id", job_id)
        views = [JobChunkView.model_validate(dict(row) | {"range": None}) for row in rows]
        told[name] = own, [view.model_dump(mode="json") for view in views]
    return told


def datasets(event: Event) -> tuple[list[Any], list[Any]]:
    """Return namespace, name, rows and bytes of each input and output."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for kind, listed in zip(("input", "output"), found, strict=True):
        for one in event[f"{kind}s"]:
            counts = one.get(f"{kind}Facets", {}).get(f"{kind}Statistics", {})
            listed.append((one["namespace"], one["name"], counts.get("rowCount"), counts.get("size")))
    return found


def columns(dataset: Event) -> dict[str, str]:
    """Return the columns of a table and their types."""
    return {field["name"]: field["type"] for field in dataset["facets"]["schema"]["fields"]}


async def test_each_pipeline_tells_what_it_reads_and_writes_and_no_secret(
    make_settings: Callable[..., Settings], pg: Connection, tmp_path: Path
) -> None:
    def file(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    def out(name: str) -> str:
        return str(tmp_path / "out" / name)

    def job(task: str, queue: str, **args: object) -> NewJob:
        return NewJob(queue, task, args, max_attempts=1)

    def load(**args: object) -> NewJob:
        return job("load.file", "load.file", **args)

    def load_sql(**args: object) -> NewJob:
        return job("load.sql", "load.sql", connection="shop", mode="append", **args)

    def unload(**args: object) -> NewJob:
        return job("unload.table", "unload.table", **args)

    await pg.execute(TABLES)
    (tmp_path / "out").mkdir()
    one, two = file("1.csv", "n\n1\n2\n3\n"), file("2.csv", "n\n4\n")
    direct = direct_dsn(make_settings())
    async with SgxStub(DAY) as exchange, CbrStub() as bank:
        settings = make_settings(
            workers_json=[{"queue": queue, "concurrency": 4} for queue in QUEUES],
            dl_source_roots=str(tmp_path),
            dl_target_roots=str(tmp_path),
            dl_connections=json.dumps({"shop": f"{direct}{'&' if '?' in direct else '?'}application_name=s3cret"}),
            dl_sgx_base_url=exchange.base_url,
            dl_sgx_feed_url=exchange.feed_url,
            dl_cbr_base_url=bank.base_url,
        )
        bank_args = {"start": "2024-03-05", "end": "2024-03-06"}
        told = await runs(
            pg,
            tmp_path,
            settings,
            {
                "a file": load(source=one, table="t1"),
                "several files": load(source=[one, two], table="t2"),
                "a bad file": load(source=file("x.csv", "n\nx\n"), table="t3", columns={"n": "int"}),
                "an odd name": load(source=two, table='"odd.name"'),
                "another table": load_sql(source_table="orders", table="t4"),
                "another query": load_sql(query="select order_id from orders", table="t5"),
                "nothing new": load_sql(source_table="empty", table="t6", min_rows=0),
                "an odd unload": unload(table='"odd.name"', target=out("0")),
                "an unload": unload(table="orders", target=out("1")),
                "another's unload": unload(table="orders", target=out("2"), connection="shop"),
                "an empty unload": unload(table="empty", target=out("6")),
                "a query": unload(query="select 1 as n", target=out("3")),
                "the same query": unload(query="select 1 as n", target=out("4")),
                "a different query": unload(query="select 2 as n", target=out("5")),
                "the exchange": job("sgx.futures", "load.sgx", date=DAY.isoformat(), table="futures"),
                "the bank by day": job("cbr.daily_rates", "load.cbr", **bank_args, table="days"),
                "the bank by currency": job("cbr.daily_rates", "load.cbr", **bank_args, by="currency", table="rates"),
                "the guide": job("shop.archive", QUEUE, before="2999-01-01"),
                "two tables": job("own.both", QUEUE),
                "careless": job("own.careless", QUEUE),
                "again": NewJob(QUEUE, "own.once", max_attempts=2),
            },
        )

    ends = {name: datasets(events[-1]) for name, (events, _) in told.items()}
    own, shop = own_database(settings), Database.of_dsn(direct)

    def table(name: str, rows: int | None, database: Database = own) -> tuple[str, str, int | None, None]:
        return database.server, f"{database.name}.public.{name}", rows, None

    def size(number: int) -> int:
        return sum(part.stat().st_size for part in Path(out(str(number))).glob("part-*"))

    queries = {name: read[0][1] for name, (read, _) in ends.items() if "query" in name}
    days, rates = [await pg.fetchval(f"select count(*) from {name}") for name in ("days", "rates")]
    assert {name: end for name, end in ends.items() if name not in queries} == {
        "a file": ([("file", one, 3, 6)], [table("t1", 3)]),
        "several files": ([("file", one, 3, 6), ("file", two, 1, 2)], [table("t2", 4)]),
        "a bad file": ([], []),
        "an odd name": ([("file", two, 1, 2)], [table('"odd.name"', 1)]),
        "another table": ([table("orders", 2, shop)], [table("t4", 2)]),
        "nothing new": ([table("empty", 0, shop)], [table("t6", 0)]),
        "an odd unload": ([table('"odd.name"', ends["an odd unload"][0][0][2])], ends["an odd unload"][1]),
        "an unload": ([table("orders", 2)], [("file", out("1"), 2, size(1))]),
        "another's unload": ([table("orders", 2, shop)], [("file", out("2"), 2, size(2))]),
        "an empty unload": ([table("empty", 0)], [("file", out("6"), 0, size(6))]),
        "the exchange": ([(exchange.base_url, "/", 3, None)], [table("futures", 3)]),
        "the bank by day": ([(bank.base_url, "/", days, None)], [table("days", days)]),
        "the bank by currency": ([(bank.base_url, "/", rates, None)], [table("rates", rates)]),
        "the guide": ([table("orders", 2)], [table("archive", 2)]),
        "two tables": ([("dataloader", "a feed that only we know", 3, None)], [table("a", None), table("b", None)]),
        "careless": (
            [("https://h:8443", "/f.csv", 0, None), ("dataloader", "host=h dbname=shop password=***", 0, None)],
            [("postgres://h:5432", "shop.public.t", 0, None)],
        ),
        "again": ([("dataloader", "attempt 2", 0, None)], []),
    }
    assert queries["a query"] == queries["the same query"] != queries["a different query"]
    assert all(name.startswith(f"{own.name}.query:") for name in queries.values())
    assert ends["another query"][1] == [table("t5", 2)]

    kinds = {name: [event["eventType"] for event in events] for name, (events, _) in told.items()}
    assert kinds["again"] == ["START", "FAIL", "START", "COMPLETE"]
    assert datasets(told["again"][0][1]) == ([("dataloader", "attempt 1", 0, None)], [])
    assert {kind for name, listed in kinds.items() if name != "a bad file" for kind in listed[-1:]} == {"COMPLETE"}
    assert "line 2" in told["a bad file"][0][-1]["run"]["facets"]["errorMessage"]["message"]
    assert columns(told["a file"][0][-1]["outputs"][0]) == {"n": "bigint"}
    assert columns(told["an unload"][0][-1]["inputs"][0]) == {"order_id": "integer", "placed_at": "date"}
    begun = [one for events, _ in told.values() for one in events if one["eventType"] in {"START", "RUNNING"}]
    assert not any(one["inputs"] + one["outputs"] for one in begun)

    sides = {name: [(view["source"], view["targets"]) for view in views] for name, (_, views) in told.items()}
    assert sides["another table"] == [("public.orders", ["public.t4"])]
    assert sides["another query"] == [(f"query:{queries['another query'].partition(':')[2]}", ["public.t5"])]
    assert sides["an odd name"] == [(two, ['public."odd.name"'])]
    assert sides["careless"] == [("https://h:8443/f.csv", ["public.t"]), ("host=h dbname=shop password=***", [])]
    shown = json.dumps(sides)
    assert [text for text in ("postgres:", "localhost", own.name, "s3cret", "s3user") if text in shown] == []
    everything = json.dumps(told) + json.dumps([str(row) for row in await pg.fetch("select * from dl_chunks")])
    assert [text for text in ("s3cret", "s3user") if text in everything] == []
