"""Files in S3, as moto's server has it, and in other stores."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import fsspec
import pytest
from s3fs import S3FileSystem

from dataloader.config import Settings
from tests.loading.parquet_files import numbers
from tests.loading.scene import Scene, message, result
from tests.loading.stores import KEY, SECRET, Store, start_of

ROWS = 40_000


def large(rows: int) -> bytes:
    """Return a file of several megabytes."""
    return b"n,text\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(rows))


BODY = large(ROWS)


@pytest.fixture
def near(scene: Scene, make_settings: Callable[..., Settings]) -> Scene:
    """A scene whose loads may read one bucket, and one folder of memory."""
    settings = make_settings(
        dl_source_buckets="s3://market-data,memory://open/", workers_json='[{"queue": "load.file", "concurrency": 1}]'
    )
    return replace(scene, settings=settings)


async def test_an_object_is_loaded(near: Scene, store: Store) -> None:
    job = await near.load(source=store.put("s3://market-data/prices.csv", BODY))

    assert result(job)["rows"] == ROWS
    assert await near.rows("select count(*), sum(n) from t") == [(ROWS, ROWS * (ROWS - 1) // 2)]


async def test_a_pattern_names_objects_in_the_order_of_their_names(near: Scene, store: Store) -> None:
    for name in ("b", "a", "c"):
        store.put(f"s3://market-data/daily/{name}.csv", f"name\n{name}\n".encode())
    store.put("s3://market-data/daily/other.txt", b"name\nx\n")

    job = await near.load(source="s3://market-data/daily/*.csv")
    none = await near.load(source="s3://market-data/weekly/*.csv")

    assert result(job)["files"] == 3
    assert await near.rows() == [("a",), ("b",), ("c",)]
    assert "no file matches s3://market-data/weekly/*.csv" in message(none)


async def test_parquet_is_brought_here(near: Scene, store: Store) -> None:
    job = await near.load(source=store.put("s3://market-data/f.parquet", numbers(1_000, groups=2)), chunk_bytes=2_000)

    assert result(job)["rows"] == 1_000


async def test_an_object_that_changes_between_attempts_is_noticed(near: Scene, store: Store) -> None:
    await near.pg.execute("create table t (n int check (n < 39000), text text)")
    address = store.put("s3://market-data/prices.csv", BODY)
    job = await near.load(source=address, chunk_bytes=100_000)
    assert "line 39002" in message(job)

    store.put(address, BODY.replace(b"row", b"ROW"))
    await near.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await near.ended(job["job_id"])

    assert "changed after its load had begun" in message(again)
    assert await near.rows("select count(*) from t where text like 'ROW%'") == [(0,)]


async def test_a_load_goes_on_behind_what_is_committed(near: Scene, store: Store) -> None:
    await near.pg.execute("create table t (n int check (n < 39000), text text)")
    job = await near.load(source=store.put("s3://market-data/prices.csv", BODY), chunk_bytes=100_000)
    assert "line 39002" in message(job)

    await near.pg.execute("alter table t drop constraint t_n_check")
    await near.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await near.ended(job["job_id"])

    assert result(again)["rows"] == ROWS
    assert await near.rows("select count(*), count(distinct n) from t") == [(ROWS, ROWS)]


async def test_what_is_committed_is_not_asked_for_again(near: Scene, store: Store) -> None:
    await near.pg.execute("create table t (n int check (n < 390000), text text)")
    address = store.put("s3://market-data/large.csv", large(400_000))
    job = await near.load(source=address, chunk_bytes=1_000_000)
    assert "line 390002" in message(job)
    offset = await near.pg.fetchval("select (checkpoint->>'offset')::int from dl_jobs")
    store.asked.clear()

    await near.pg.execute("alter table t drop constraint t_n_check")
    await near.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await near.ended(job["job_id"])

    assert result(again)["rows"] == 400_000
    ranges = [wanted for method, _, wanted, _ in store.asked if method == "GET" and wanted]
    behind = [start_of(wanted) for wanted in ranges]
    assert offset in behind
    assert all(start == 0 or start >= offset for start in behind)
    assert all(etag for method, _, wanted, etag in store.asked if wanted)


async def test_an_object_that_changes_while_it_is_read_is_noticed(near: Scene, store: Store) -> None:
    address = store.put("s3://market-data/large.csv", large(800_000))
    other = large(800_000).replace(b"row", b"ROW")
    store.meanwhile = partial(store.put, address, other)

    job = await near.load(source=address, chunk_bytes=1_000_000)

    assert store.files.cat_file(address) == other
    assert "changed after its load had begun" in message(job)
    assert await near.rows("select count(*) from t where text like 'ROW%'") == [(0,)]
    assert await near.pg.fetchval("select count(*) from t") > 100_000


async def test_credentials_show_nowhere(
    near: Scene, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    loaded = await near.load(source=store.put("s3://market-data/f.csv", b"n\n1\n"))
    written = await near.load(source=f"s3://{KEY}:{SECRET}@market-data/f.csv")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    S3FileSystem.clear_instance_cache()
    away = await near.load(source="s3://market-data/f.csv")

    assert result(loaded)["rows"] == 1
    assert "must not hold credentials" in message(written)
    assert "s3://market-data/f.csv could not be read" in message(away)
    told = [caplog.text, *(str(job["error"]) for job in (loaded, written, away))]
    tables = await near.rows("select tablename from pg_tables where tablename like 'dl_%' and tablename <> 'dl_jobs'")
    for (table,) in tables:
        told += [row for (row,) in await near.rows(f"select t::text from {table} t")]
    assert not [text for text in told if KEY in text or SECRET in text]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("s3://market-data-of-others/f.csv", "lies outside what DL_SOURCE_BUCKETS names"),
        ("s3://market-data*/f.csv", "lies outside what DL_SOURCE_BUCKETS names"),
        ("gs://market-data/f.csv", "lies outside what DL_SOURCE_BUCKETS names"),
        ("local:///etc/passwd", "lies outside what DL_SOURCE_BUCKETS names"),
        ("memory://open/../closed/f.csv", "must not hold"),
        ("memory://open/f.csv::file:///etc/passwd", "must not hold"),
        ("s3://market-data/nothing.csv", "s3://market-data/nothing.csv does not exist"),
    ],
)
async def test_what_may_not_be_read_is_refused(near: Scene, store: Store, source: str, reason: str) -> None:
    store.put("s3://market-data-of-others/f.csv", b"n\n1\n")

    job = await near.load(source=source)

    assert reason in message(job)
    assert await near.pg.fetchval("select to_regclass('t')") is None


async def test_without_the_setting_no_bucket_is_read(scene: Scene, store: Store) -> None:
    job = await scene.load(source=store.put("s3://market-data/f.csv", b"n\n1\n"))

    assert "name what may be read in DL_SOURCE_BUCKETS" in message(job)


async def test_a_store_whose_library_is_missing_says_which(
    scene: Scene, make_settings: Callable[..., Settings]
) -> None:
    workers = '[{"queue": "load.file", "concurrency": 1}]'
    asking = replace(scene, settings=make_settings(dl_source_buckets="*", workers_json=workers))

    missing, unknown = await asking.loads({"source": "gs://prices/f.csv"}, {"source": "klingon://prices/f.csv"})

    assert "what reads gs:// is not installed" in message(missing)
    assert "klingon:// is not supported" in message(unknown)


async def test_any_store_of_fsspec_is_read(near: Scene) -> None:
    fsspec.filesystem("memory").pipe_file("/open/f.csv", b"n\n1\n2\n")

    job = await near.load(source="memory://open/f.csv")

    assert result(job)["rows"] == 2
