"""SIGKILL at random moments of loads from files: each row once, and little loaded again."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataloader.domain.jobs import NewJob
from tests.chaos.conftest import FULL, Size
from tests.chaos.killing import kill_again_and_again
from tests.chaos.processes import Fleet

CHUNK_BYTES = 64 * 1024
CHECK = "select count(*) as rows, count(distinct n) as different, sum(n) as total, sum(hashtext(text)) as hash from t"

UNCOMMITTED = """
select coalesce(extract(epoch from clock_timestamp() - max(c.at))::float8, 0)
  from dl_jobs j join dl_chunks c on c.job_id = j.job_id and c.epoch = j.epoch
 where j.job_id = $1 and j.finished_at is null
"""
OFFSET = "select coalesce((checkpoint->>'offset')::bigint, 0) from dl_jobs where job_id = $1"
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


WAYS = [
    (write_source, "append", 3, False),
    (write_parquet, "merge", 1, True),
    (write_source, "append", 1, False),
    (write_source, "append", 3, True),
    (write_source, "merge", 1, False),
    (write_source, "replace", 2, True),
    (write_parquet, "append", 1, False),
    (write_parquet, "append", 3, False),
    (write_parquet, "replace", 2, False),
]
IN_THE_SUITE = 2
"""The first ones; `make chaos` goes all ways."""


@pytest.mark.parametrize(("write", "mode", "parallel", "in_child"), WAYS if FULL else WAYS[:IN_THE_SUITE])
async def test_a_file_is_loaded_once_whatever_is_killed(
    *,
    fleet: Fleet,
    pg: Any,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
    write: Callable[[Path, int], None],
    mode: str,
    parallel: int,
    in_child: bool,
) -> None:
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
    killed = await kill_again_and_again(
        fleet,
        pg,
        NewJob("load.file", "load.file", args),
        kills=kills,
        chance=chance,
        within_s=0.1,
        ask=OFFSET,
        in_child=in_child,
        dl_source_roots=str(tmp_path),
    )
    row, offsets = killed.row, killed.seen

    found = await pg.fetchrow(CHECK)
    expected = await pg.fetchrow(
        "select count(*) as rows, count(distinct n) as different, sum(n) as total, sum(hashtext(text)) as hash"
        " from (select n, format(E'row \"%s\"\\nof the file', n) as text from generate_series(0, $1 - 1) n) s",
        rows,
    )
    report(
        write=write.__name__,
        mode=mode,
        in_child=in_child,
        kills=kills,
        rows=rows,
        offsets=offsets[-3:],
        status=row["status"],
        error=row["error"],
    )
    assert (row["status"], row["attempt"]) == ("succeeded", 1 + (kills + 1) // 2 if in_child else 1)
    assert dict(found) == dict(expected)
    assert json.loads(row["result"])["rows"] == rows
    assert offsets == sorted(offsets)


@pytest.mark.parametrize(("parallel", "in_child"), [(1, False), (2, False), (1, True)] if FULL else [(1, False)])
async def test_little_is_loaded_again_after_a_kill(
    *,
    fleet: Fleet,
    pg: Any,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
    parallel: int,
    in_child: bool,
) -> None:
    """Chunks as large as they become by themselves; what is not committed when a worker is killed is done again."""
    kills, rows = size.pick(small=(1, 200_000), full=(30, 20_000_000))
    source = tmp_path / "source"
    await asyncio.to_thread(write_source, source, rows)
    args = {"source": str(source), "table": "t", "parallel": parallel}
    killed = await kill_again_and_again(
        fleet,
        pg,
        NewJob("load.file", "load.file", args),
        kills=kills,
        chance=chance,
        within_s=4,
        ask=UNCOMMITTED,
        in_child=in_child,
        dl_source_roots=str(tmp_path),
    )
    row, repeated = killed.row, killed.seen

    report(
        parallel=parallel, in_child=in_child, kills=kills, rows=rows, most_s=max(repeated), mean_s=sum(repeated) / kills
    )
    assert row["finished_at"] is not None
    assert row["status"] == "succeeded"
    assert dict(await pg.fetchrow("select count(*) as rows, sum(n) as total from t")) == {
        "rows": rows,
        "total": rows * (rows - 1) // 2,
    }
    assert max(repeated) <= MOST_REPEATED_S
