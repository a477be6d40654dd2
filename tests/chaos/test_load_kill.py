"""SIGKILL at random moments of loads from files: each row once, and little loaded again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue, eventually, finished

CHUNK_BYTES = 64 * 1024
CHECK = "select count(*) as rows, count(distinct n) as different, sum(n) as total, sum(hashtext(text)) as hash from t"

UNCOMMITTED = """
select coalesce(extract(epoch from clock_timestamp() - max(c.at))::float8, 0)
  from dl_jobs j join dl_chunks c on c.job_id = j.job_id and c.epoch = j.epoch
 where j.job_id = $1 and j.finished_at is null
"""
MOST_REPEATED_S = 3.0


def write_source(path: Path, rows: int) -> None:
    """Write a file whose fields hold quotes and line ends."""
    lines = (f'{n},"row ""{n}""\nof the file"\n' for n in range(rows))
    path.write_text("n,text\n" + "".join(lines))


def write_parquet(path: Path, rows: int) -> None:
    """Write the same as Parquet, in row groups that are larger than the pieces they are loaded in."""
    schema = pa.schema([("n", pa.int64()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 30_000):
            numbers = range(first, min(first + 30_000, rows))
            texts = [f'row "{n}"\nof the file' for n in numbers]
            writer.write_table(pa.table({"n": numbers, "text": texts}, schema=schema))


SMALL = ("write_source", "append", 3)
"""What is killed in the suite; `make chaos` kills all."""


@pytest.mark.parametrize(
    ("write", "mode", "parallel"),
    [
        (write_source, "append", 1),
        (write_source, "append", 3),
        (write_source, "merge", 1),
        (write_source, "replace", 2),
        (write_parquet, "append", 1),
        (write_parquet, "append", 3),
        (write_parquet, "merge", 1),
        (write_parquet, "replace", 2),
    ],
)
async def test_a_file_is_loaded_once_whatever_is_killed(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
    write: Callable[[Path, int], None],
    mode: str,
    parallel: int,
) -> None:
    if not size.full and (write.__name__, mode, parallel) != SMALL:
        pytest.skip("make chaos")
    kills, rows = size.pick(small=(3, 100_000), full=(30, 1_500_000))
    source = tmp_path / "source"
    write(source, rows)
    args = {
        "source": str(source),
        "table": "t",
        "mode": mode,
        "primary_key": ["n"],
        "chunk_bytes": CHUNK_BYTES,
        "parallel": parallel,
    }
    (job_id,) = await enqueue(pg, settings, NewJob("load.file", "load.file", args))
    start = partial(
        fleet.start, queues={"load.file": 1}, dl_source_roots=str(tmp_path), dl_default_lease_ttl_sec=2, pg_pool_size=4
    )
    worker = start()
    offsets: list[int] = []
    for kill in range(kills):
        await eventually(partial(_has_advanced, pg, job_id, kill + 1))
        await asyncio.sleep(chance.uniform(0, 0.1))
        await worker.kill()
        offsets.append(await _offset(pg, job_id))
        worker = start()
    (row,) = await finished(pg, [job_id], within_s=120)

    found = await pg.fetchrow(CHECK)
    expected = await pg.fetchrow(
        "select count(*) as rows, count(distinct n) as different, sum(n) as total, sum(hashtext(text)) as hash"
        " from (select n, format(E'row \"%s\"\\nof the file', n) as text from generate_series(0, $1 - 1) n) s",
        rows,
    )
    report(
        write=write.__name__,
        mode=mode,
        kills=kills,
        rows=rows,
        offsets=offsets[-3:],
        status=row["status"],
        error=row["error"],
    )
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert dict(found) == dict(expected)
    assert json.loads(row["result"])["rows"] == rows
    assert offsets == sorted(offsets)


@pytest.mark.parametrize("parallel", [1, 2])
async def test_little_is_loaded_again_after_a_kill(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
    parallel: int,
) -> None:
    """Chunks as large as they become by themselves; what is not committed when a worker is killed is done again."""
    if not size.full:
        pytest.skip("a file that takes long: make chaos")
    kills, rows = 30, 20_000_000
    source = tmp_path / "source"
    await asyncio.to_thread(write_source, source, rows)
    args = {"source": str(source), "table": "t", "parallel": parallel}
    (job_id,) = await enqueue(pg, settings, NewJob("load.file", "load.file", args))
    start = partial(
        fleet.start, queues={"load.file": 1}, dl_source_roots=str(tmp_path), dl_default_lease_ttl_sec=2, pg_pool_size=4
    )
    worker = start()
    repeated: list[float] = []
    for kill in range(kills):
        await eventually(partial(_has_advanced, pg, job_id, kill + 1), within_s=60)
        await asyncio.sleep(chance.uniform(0, 4))
        repeated.append(await pg.fetchval(UNCOMMITTED, job_id))
        await worker.kill()
        worker = start()
    (row,) = await finished(pg, [job_id], within_s=600)

    report(parallel=parallel, kills=kills, rows=rows, most_s=max(repeated), mean_s=sum(repeated) / kills)
    assert row["finished_at"] is not None
    assert row["status"] == "succeeded"
    assert dict(await pg.fetchrow("select count(*) as rows, sum(n) as total from t")) == {
        "rows": rows,
        "total": rows * (rows - 1) // 2,
    }
    assert max(repeated) <= MOST_REPEATED_S


async def _has_advanced(pg: Any, job_id: UUID, epoch: int) -> bool:
    """Return whether the run of an epoch has committed a chunk, or all is done."""
    found = await pg.fetchrow("select checkpoint_epoch, finished_at from dl_jobs where job_id = $1", job_id)
    return found["checkpoint_epoch"] == epoch or found["finished_at"] is not None


async def _offset(pg: Any, job_id: UUID) -> int:
    offset = await pg.fetchval("select (checkpoint->>'offset')::bigint from dl_jobs where job_id = $1", job_id)
    return int(offset or 0)
