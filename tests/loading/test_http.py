"""Files behind HTTP: servers that drop, change, lie, and redirect to where nobody may go."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from dataloader.config import Settings
from tests.loading.scene import Scene, message, result
from tests.loading.web import Web, serving

ROWS = 40_000
BODY = b"n,text\n" + b"".join(b"%d,row %d\n" % (n, n) for n in range(ROWS))


@pytest.fixture
async def web() -> AsyncIterator[Web]:
    async with serving(Web(BODY)) as server:
        yield server


@pytest.fixture
def near(scene: Scene, make_settings: Callable[..., Settings]) -> Scene:
    """A scene whose loads may ask this machine."""
    settings = make_settings(dl_source_hosts="127.0.0.1", workers_json='[{"queue": "load.file", "concurrency": 1}]')
    return replace(scene, settings=settings)


async def test_a_file_is_loaded_from_its_address(near: Scene, web: Web) -> None:
    job = await near.load(source=f"{web.url}/file")

    assert result(job)["rows"] == ROWS
    assert await near.rows("select count(*), sum(n) from t") == [(ROWS, ROWS * (ROWS - 1) // 2)]


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_connection_that_breaks_is_taken_up_where_it_broke(near: Scene, web: Web, ranges: bool) -> None:
    web.ranges, web.cut_after = ranges, 300_000 if ranges else None
    if not ranges:
        web.body, web.chunked = BODY, True

    job = await near.load(source=f"{web.url}/file")

    assert result(job)["rows"] == ROWS
    assert await near.rows("select count(distinct n) from t") == [(ROWS,)]
    if ranges:
        assert any(asked and asked != "bytes=0-" for asked in web.asked)


@pytest.mark.parametrize("chunk_bytes", [100_000, None])
async def test_a_retried_load_asks_for_the_rest_only(near: Scene, web: Web, chunk_bytes: int | None) -> None:
    await near.pg.execute(f"create table t (n int check (n < {ROWS - 10}), text text)")
    job = await near.load(source=f"{web.url}/file", chunk_bytes=chunk_bytes or 100_000)
    assert f"line {ROWS - 8}" in message(job)
    web.asked.clear()

    await near.pg.execute("alter table t drop constraint t_n_check")
    await near.pg.execute("update dl_jobs set status = 'queued', finished_at = null, ready = true, max_attempts = 5")
    (again,) = await near.ended(job["job_id"])

    assert result(again)["rows"] == ROWS
    assert int(str(web.asked[-1]).removeprefix("bytes=").rstrip("-")) > 300_000


async def test_a_file_that_changes_while_it_is_read_is_noticed(near: Scene, web: Web) -> None:
    web.cut_after, web.change_after = 300_000, 5

    job = await near.load(source=f"{web.url}/file")

    assert "changed after its load had begun" in message(job)
    assert await near.pg.fetchval("select to_regclass('t')") is None


async def test_a_file_that_is_shorter_than_its_server_says_fails(near: Scene, web: Web) -> None:
    web.claims, web.etag = len(BODY) + 1_000, None

    job = await near.load(source=f"{web.url}/file")

    assert "broke off" in message(job) or "changed after" in message(job)
    assert await near.pg.fetchval("select to_regclass('t')") is None


async def test_a_busy_server_is_asked_again(near: Scene, web: Web) -> None:
    web.failures = 2

    job = await near.load(source=f"{web.url}/file")

    assert result(job)["rows"] == ROWS


async def test_a_missing_file_fails_at_once(near: Scene, web: Web) -> None:
    job = await near.load(source=f"{web.url}/nothing")

    assert "answered 404" in message(job)


async def test_a_packed_file_is_unpacked_on_the_way(near: Scene, web: Web) -> None:
    web.body = gzip.compress(BODY)

    job = await near.load(source=f"{web.url}/file", chunk_bytes=100_000)

    assert result(job)["rows"] == ROWS


async def test_an_archive_is_fetched_whole(near: Scene, web: Web) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.csv", BODY)
    web.body = buffer.getvalue()

    job = await near.load(source=f"{web.url}/file")

    assert result(job)["rows"] == ROWS


async def test_a_redirect_is_followed_where_it_may_lead(near: Scene, web: Web) -> None:
    job = await near.load(source=f"{web.url}/redirect?to={web.url}/file")

    assert result(job)["rows"] == ROWS


@pytest.mark.parametrize(
    "target", ["http://169.254.169.254/latest/meta-data", "http://[::1]/x", "http://localhost/x", "file:///etc/passwd"]
)
async def test_a_redirect_to_where_nobody_may_go_is_refused(near: Scene, web: Web, target: str) -> None:
    job = await near.load(source=f"{web.url}/redirect?to={target}")

    assert "DL_SOURCE_HOSTS" in message(job) or "only absolute http" in message(job)


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/x",
        "http://localhost:1/x",
        "http://0.0.0.0:1/x",
        "http://[::ffff:127.0.0.1]:1/x",
        "http://2130706433:1/x",
        "http://127.1:1/x",
        "http://10.0.0.1/x",
        "http://169.254.169.254/x",
        "http://[fd00::1]/x",
    ],
)
async def test_private_addresses_are_refused_however_they_are_written(scene: Scene, address: str) -> None:
    job = await scene.load(source=address)

    refused = ("has no public address; name it in DL_SOURCE_HOSTS to allow it", "is not an address that can be fetched")
    assert any(reason in message(job) for reason in refused)


@pytest.mark.parametrize(
    ("query", "reason"),
    [("", "answered 302 without saying where the file is"), ("?to=http://[bad", "redirected to what is no address")],
)
async def test_a_redirect_to_nowhere_says_so(near: Scene, web: Web, query: str, reason: str) -> None:
    assert reason in message(await near.load(source=f"{web.url}/redirect{query}"))


async def test_a_range_that_begins_later_than_asked_is_not_taken(near: Scene, web: Web) -> None:
    web.cut_after, web.late = 300_000, 7

    job = await near.load(source=f"{web.url}/file", chunk_bytes=200_000)

    assert "begins 7 bytes later than asked" in message(job)


async def test_two_addresses_that_differ_in_a_hidden_part_are_two_files(near: Scene, web: Web) -> None:
    web.body = b"n\n1\n"

    job = await near.load(source=[f"{web.url}/file?key=one", f"{web.url}/file?key=two"])

    assert result(job)["files"] == 2
    assert await near.rows() == [(1,), (1,)]


async def test_an_archive_is_read_in_one_piece_even_if_several_are_asked_for(near: Scene, web: Web) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("f[1].csv", BODY)
    web.body = packed.getvalue()

    job = await near.load(source=f"{web.url}/file", member="f[1].csv", parallel=4, chunk_bytes=100_000)

    assert result(job)["rows"] == ROWS
    assert await near.rows("select count(*), sum(n) from t") == [(ROWS, ROWS * (ROWS - 1) // 2)]
    overlapping = "select count(*) from dl_chunks a join dl_chunks b on a.chunk_id = b.chunk_id + 1"
    assert await near.rows(f"{overlapping} where (a.range->>'begin')::int <> (b.range->>'end')::int") == [(0,)]


async def test_a_password_in_an_address_is_not_shown(near: Scene, web: Web) -> None:
    address = web.url.replace("http://", "http://user:hunter2@")

    job = await near.load(source=f"{address}/nothing?token=hunter3")

    assert "answered 404" in message(job)
    assert "hunter" not in message(job)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("/etc/passwd", "lies outside the directories named in DL_SOURCE_ROOTS"),
        ("{folder}/../../etc/passwd", "lies outside"),
        ("{folder}/link", "lies outside"),
        ("/etc/*", "lies outside"),
        ("{folder}/pipe", "is not a regular file"),
        ("{folder}", "is not a regular file"),
        ("{folder}/nothing.csv", "does not exist"),
        ("{folder}/nothing-*.csv", "no file matches"),
        ("ftp://example.com/x", "ftp:// is not open here"),
    ],
)
async def test_paths_beyond_the_roots_and_what_is_no_file_are_refused(scene: Scene, source: str, reason: str) -> None:
    (scene.folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(scene.folder / "pipe")

    job = await scene.load(source=source.format(folder=scene.folder))

    assert reason in message(job)


async def test_without_roots_no_local_file_is_read(scene: Scene, make_settings: Callable[..., Settings]) -> None:
    closed = replace(scene, settings=make_settings(workers_json='[{"queue": "load.file"}]'))

    job = await closed.load(source=scene.write("f.csv", "n\n1\n"))

    assert "name their directories in DL_SOURCE_ROOTS" in message(job)
