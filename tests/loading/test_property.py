"""Any table, written as a file and loaded, is the same table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dataloader.domain.jobs import NewJob
from tests.loading.scene import Scene, result
from tests.workers.harness import enqueue, finished

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ROWS = st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.one_of(st.none(), TEXT)), min_size=1, max_size=20)


def as_csv(rows: list[tuple[int, str | None]], ends: str) -> bytes:
    """Write rows as CSV: an empty field is missing, an empty text quoted."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="")
    buffer.write(f"place,n,text{ends}")
    for place, (n, text) in enumerate(rows):
        buffer.write(f"{place},{n},")
        if text is not None:
            writer.writerow([text])
        buffer.write(ends)
    return buffer.getvalue().encode()


def as_jsonl(rows: list[tuple[int, str | None]], ends: str) -> bytes:
    """Write rows as JSON Lines."""
    lines = (json.dumps({"place": place, "n": n, "text": text}) + ends for place, (n, text) in enumerate(rows))
    return "".join(lines).encode()


def as_parquet(rows: list[tuple[int, str | None]], ends: str) -> bytes:
    """Write rows as Parquet, in row groups of as many rows as a line end has signs."""
    buffer = io.BytesIO()
    columns = {
        "place": range(len(rows)),
        "n": [n for n, _ in rows],
        "text": pa.array([t for _, t in rows], pa.string()),
    }
    pq.write_table(pa.table(columns), buffer, row_group_size=len(ends))
    return buffer.getvalue()


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=ROWS,
    write=st.sampled_from([as_csv, as_jsonl, as_parquet]),
    ends=st.sampled_from(["\n", "\r\n"]),
    mode=st.sampled_from(["append", "merge", "replace"]),
    chunk_bytes=st.one_of(st.none(), st.integers(1, 60)),
    on_error=st.sampled_from(["fail", "reject"]),
    parallel=st.sampled_from([1, 3]),
    last_line_ends=st.booleans(),
)
async def test_any_table_comes_back_as_it_was(
    *,
    working: Scene,
    rows: list[tuple[int, str | None]],
    write: Callable[[list[tuple[int, str | None]], str], bytes],
    ends: str,
    mode: str,
    chunk_bytes: int | None,
    on_error: str,
    parallel: int,
    last_line_ends: bool,
) -> None:
    await working.pg.execute("drop table if exists t; create table t (place int primary key, n bigint, text text)")
    body = write(rows, ends)
    args: dict[str, Any] = {
        "source": working.write("f", body if last_line_ends else body.removesuffix(ends.encode())),
        "table": "t",
        "mode": mode,
        "primary_key": ["place"],
        "chunk_bytes": chunk_bytes,
        "on_error": on_error,
        "parallel": 1 if mode == "merge" else parallel,
    }
    job = NewJob("load.file", "load.file", args, max_attempts=1)

    (ended,) = await finished(working.pg, await enqueue(working.pg, working.settings, job))

    assert result(ended)["rejected"] == 0
    assert await working.rows("select n, text from t order by place") == rows
