"""Unloads into a bucket: what is there, what is left of a run that died, and what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from dataloader.config import Settings
from dataloader.connectors.unloading.bucket import BucketSink
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.registry import REGISTRY, load_all
from tests.loading.scene import Scene, message, result
from tests.loading.stores import KEY, SECRET, Store
from tests.loading.test_unload_attempts import again, mended
from tests.loading.unloaded import ROWS, WORKERS
from tests.workers.harness import enqueue, eventually, finished, running_service

OUT = "s3://market-data/out/t"
FILLING = "select n, repeat(md5(n::text), 40) as text from generate_series(1, 8000) n"
"""Some 10 MB: an object of several pieces."""


@dataclass
class Bucket:
    """What lies at the target."""

    store: Store

    def listed(self) -> list[str]:
        """Return all names."""
        return sorted(path.rpartition("/")[2] for path in self.store.files.find(OUT))

    def content(self, name: str) -> bytes:
        """Return an object."""
        data: bytes = self.store.files.cat_file(f"{OUT}/{name}")
        return data

    def manifest(self) -> dict[str, Any]:
        """Return the manifest, once all that it says of its parts has been found true."""
        found: dict[str, Any] = json.loads(self.content("manifest.json"))
        for part in found["parts"]:
            data = self.content(part["name"])
            assert (len(data), hashlib.sha256(data).hexdigest()) == (part["bytes"], part["sha256"])
        assert found["rows"] == sum(part["rows"] for part in found["parts"])
        return found

    def numbers(self) -> list[int]:
        """Return the first column of every row of the parts that the manifest names."""
        parts = [self.content(part["name"]).decode().splitlines()[1:] for part in self.manifest()["parts"]]
        return [int(line.partition(",")[0]) for part in parts for line in part]

    def whole(self) -> list[str]:
        """Return the names that there are when nothing is left over."""
        return ["manifest.json", *(part["name"] for part in self.manifest()["parts"])]

    def uploads(self) -> list[str]:
        """Return the keys of which pieces have been sent."""
        return [upload["Key"] for upload in self.store.files.list_multipart_uploads("market-data")]


@pytest.fixture
def bucket(store: Store) -> Bucket:
    """A bucket that unloads may write to."""
    return Bucket(store)


@pytest.fixture
def sending(unloading: Scene, make_settings: Callable[..., Settings], bucket: Bucket) -> Scene:
    """A scene whose unloads may write to a folder of a bucket, and whose loads may read it."""
    del bucket
    settings = make_settings(
        dl_target_buckets="s3://market-data/out", dl_source_buckets="s3://market-data/", workers_json=WORKERS
    )
    return replace(unloading, settings=settings)


@pytest.mark.parametrize("how", [{"format": "parquet"}, {"compression": "gzip", "part_rows": 30}])
async def test_what_is_unloaded_and_loaded_is_the_same(sending: Scene, bucket: Bucket, how: dict[str, object]) -> None:
    job = await sending.load(target=f"{OUT}/", **how)
    told = await sending.rows("select distinct targets from dl_chunks")
    await sending.pg.execute("create table back (like t)")
    await replace(sending, task="load.file").load(source=f"{OUT}/part-*", table="back")

    found = bucket.manifest()
    assert result(job) == {
        "rows": ROWS,
        "bytes": found["bytes"],
        "parts": len(found["parts"]),
        "manifest": f"{OUT}/manifest.json",
    }
    assert bucket.listed() == bucket.whole()
    assert (bucket.uploads(), told) == ([], [([OUT],)])
    first = bucket.content(found["parts"][0]["name"])
    if how.get("format") == "parquet":
        assert first.startswith(b"PAR1")
    else:
        assert len(found["parts"]) == 4
        assert gzip.decompress(first).startswith(b"id,amount,note,at\n1,0.33,note 1,")
    assert await sending.rows("(table t except all table back) union all (table back except all table t)") == []


async def test_an_attempt_goes_on_behind_its_last_part_and_nothing_is_left_of_the_one_before(
    sending: Scene, bucket: Bucket
) -> None:
    """Between parts: an object that no checkpoint names. Inside of one: pieces of an object."""
    await sending.pg.execute("create view v as select id, 1 / (70 - id) as part, note from t")
    job = await sending.load(table="v", key=["id"], target=OUT, part_rows=30)
    assert "division by zero" in message(job)
    assert bucket.uploads() == []
    mark, kept = job["job_id"].hex[-12:], bucket.listed()
    assert [name.rpartition("-")[0] for name in kept[1:]] == [f"part-0000{n}-{mark}" for n in (1, 2)]
    bucket.store.put(f"{OUT}/part-00003-{mark}-00000000.csv", b"id,part,note\n61,0,half")
    bucket.store.files.call_s3(
        "create_multipart_upload", Bucket="market-data", Key=f"out/t/part-00003-{mark}-00000001.csv"
    )
    await mended(sending)

    job = await again(sending, job["job_id"])

    assert result(job)["rows"] == ROWS
    assert bucket.numbers() == list(range(1, ROWS + 1))
    assert bucket.listed() == bucket.whole()
    assert bucket.listed()[1:3] == kept[1:]
    assert bucket.uploads() == []


async def test_a_part_that_was_changed_between_attempts_is_noticed(sending: Scene, bucket: Bucket) -> None:
    await sending.pg.execute("create view v as select id, 1 / (70 - id) as part, note from t")
    job = await sending.load(table="v", key=["id"], target=OUT, part_rows=30)
    name = bucket.listed()[2]
    bucket.store.put(f"{OUT}/{name}", bucket.content(name).replace(b"note 3", b"note 8"))
    await mended(sending)

    job = await again(sending, job["job_id"])

    assert f"{name} of an earlier attempt is gone" in message(job)
    assert "manifest.json" not in bucket.listed()


async def test_a_run_that_ends_inside_of_a_part_lets_its_pieces_go(sending: Scene, bucket: Bucket) -> None:
    query = "select generate_series(1, 100000000) as n, repeat('x', 1000) as text"
    load_all()
    async with running_service(sending.settings, REGISTRY):
        args = {"query": query, "target": OUT}
        (job_id,) = await enqueue(sending.pg, sending.settings, NewJob(sending.task, sending.task, args))
        await eventually(lambda: _is_sent(bucket))
        await sending.pg.fetch("select * from dl_cancel($1)", job_id)
        (job,) = await finished(sending.pg, [job_id], within_s=sending.settings.dl_cancel_grace_sec)

    assert (job["status"], bucket.listed(), bucket.uploads()) == ("canceled", [f".unload-{job_id}"], [])
    assert result(await sending.load(target=OUT))["rows"] == ROWS
    assert bucket.listed() == bucket.whole()


async def _is_sent(bucket: Bucket) -> bool:
    return any("partNumber" in query for query in bucket.store.queries)


async def test_an_object_is_one_whether_it_has_several_pieces_or_none(sending: Scene, bucket: Bucket) -> None:
    large = await sending.load(table=None, query=FILLING, target=OUT)
    numbers, pieces = bucket.numbers(), [query for query in bucket.store.queries if "partNumber" in query]
    await sending.load(table=None, query="select 1 as n limit 0", target=OUT, header=False, overwrite=True)

    assert result(large)["bytes"] > 10_000_000
    assert (numbers, len(pieces) > 1) == (list(range(1, 8_001)), True)
    assert bucket.content(bucket.manifest()["parts"][0]["name"]) == b""
    assert bucket.listed() == bucket.whole()


async def test_an_earlier_unload_is_kept_unless_it_is_to_be_replaced(sending: Scene, bucket: Bucket) -> None:
    how = {"target": OUT, "part_rows": 30}
    first, second, third = await sending.loads(how, how, how | {"part_rows": 60, "overwrite": True})

    assert f"{OUT} holds manifest.json of an earlier unload; set overwrite=true" in message(second)
    assert (result(first)["parts"], result(third)["parts"]) == (4, 2)
    assert bucket.manifest()["job_id"] == str(third["job_id"])
    assert bucket.listed() == bucket.whole()


async def test_what_others_keep_is_never_replaced(sending: Scene, bucket: Bucket) -> None:
    name = f"part-00001-{uuid4().hex[-12:]}-00000000.csv"
    bucket.store.put(f"{OUT}/{name}", b"n\n1\n")
    bucket.store.put(f"{OUT}/other/manifest.json", b'{"name": "app"}')

    part, manifest = await sending.loads({"target": OUT}, {"target": f"{OUT}/other", "overwrite": True})

    assert f"holds {name} of an earlier unload" in message(part)
    assert "is not the manifest of an unload; move it away" in message(manifest)
    assert bucket.listed() == ["manifest.json", name]


async def test_what_may_not_be_written_to_is_refused(
    sending: Scene, bucket: Bucket, make_settings: Callable[..., Settings]
) -> None:
    outside = "lies outside what DL_TARGET_BUCKETS names"
    reasons: dict[object, str] = {
        "s3://market-data/elsewhere": outside,
        "s3://market-data/outside": outside,
        "s3://market-data-of-others/out": outside,
        "file:///etc": outside,
        "s3://market-data/out/../t": "must not hold",
        "s3://market-data/out//t": "is no place to write to",
        "s3://market-data/out/*": "is no place to write to",
        f"s3://{KEY}:{SECRET}@market-data/out": "must not hold credentials",
    }
    everywhere = replace(sending, settings=make_settings(dl_target_buckets="*", workers_json=WORKERS))
    bucket.store.asked.clear()

    jobs = await sending.loads(*({"target": target} for target in reasons))
    elsewhere = await everywhere.load(target="file:///tmp/out")
    nowhere = await replace(sending, settings=make_settings(workers_json=WORKERS)).load(target=OUT)

    assert [
        message(job) for job, reason in zip(jobs, reasons.values(), strict=True) if reason not in message(job)
    ] == []
    assert not [job for job in jobs if SECRET in message(job)]
    assert "is no place to write to; name a directory, or a folder of a bucket" in message(elsewhere)
    assert "name what may be written to in DL_TARGET_BUCKETS" in message(nowhere)
    assert bucket.store.asked == []


async def look_at_who_asks(store: Store, *, after: str) -> None:
    """Let the store look at who asks, after so many requests; nobody is known to it."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{store.url}/moto-api/reset-auth", data=after) as answer,
    ):
        answer.raise_for_status()


async def test_credentials_show_nowhere(sending: Scene, bucket: Bucket, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    written = await sending.load(target=OUT)
    await look_at_who_asks(bucket.store, after="0")
    try:
        wrong = await sending.load(target=f"{OUT}2")
    finally:
        await look_at_who_asks(bucket.store, after="inf")

    assert result(written)["rows"] == ROWS
    assert f"{OUT}2 may not be written with this machine's credentials" in message(wrong)
    told = [caplog.text, str(wrong["error"])]
    for (table,) in await sending.rows("select tablename from pg_tables where tablename like 'dl_%'"):
        told += [row for (row,) in await sending.rows(f"select t::text from {table} t")]
    assert not [text for text in told if KEY in text or SECRET in text]


def test_a_part_that_a_store_would_not_take_is_refused_before_it_is_sent(store: Store) -> None:
    sink = BucketSink(store.files, f"{OUT}/part", most_bytes=10)
    sink.write(b"0123456789")

    with pytest.raises(PermanentError, match="give a key to cut by"):
        sink.write(b"0")
    sink.close()

    assert store.files.find("s3://market-data") == []
