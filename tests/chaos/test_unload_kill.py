"""SIGKILL at random moments of unloads into files: each row in one part, and the manifest true."""

from __future__ import annotations

import csv
import hashlib
import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.conftest import Size
from tests.chaos.killing import kill_again_and_again
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue

PARTS = "select jsonb_array_length(checkpoint->'parts') from dl_jobs where job_id = $1"


async def test_a_table_is_unloaded_once_whatever_is_killed(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
) -> None:
    kills, rows = size.pick(small=(2, 60_000), full=(30, 600_000))
    await pg.execute(
        "create table t (n int primary key, text text);"
        f"insert into t select n, format(E'row \"%s\"\\nof the table', n) from generate_series(1, {rows}) n"
    )
    args = {"table": "t", "target": str(tmp_path / "out"), "part_rows": rows // (kills * 6)}
    (job_id,) = await enqueue(pg, settings, NewJob("unload.table", "unload.table", args))
    killed = await kill_again_and_again(
        fleet,
        pg,
        job_id,
        kills=kills,
        chance=chance,
        within_s=0.1,
        ask=partial(
            pg.fetchval, "select jsonb_array_length(checkpoint->'parts') from dl_jobs where job_id = $1", job_id
        ),
        queues={"unload.table": 1},
        dl_target_roots=str(tmp_path),
    )
    row, parts = killed.row, killed.seen

    report(kills=kills, rows=rows, parts=parts[-3:], status=row["status"], error=row["error"])
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert parts == sorted(parts)
    assert _numbers(tmp_path / "out") == list(range(1, rows + 1))


def _numbers(folder: Path) -> list[int]:
    """Return the key of every row of the parts that the manifest names, and find it true."""
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    names = [part["name"] for part in manifest["parts"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted(["manifest.json", *names])
    numbers: list[int] = []
    for part in manifest["parts"]:
        path = folder / part["name"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == part["sha256"]
        with path.open(newline="", encoding="utf-8") as file:
            records = list(csv.reader(file))[1:]
        assert len(records) == part["rows"]
        assert all(text == f'row "{n}"\nof the table' for n, text in records)
        numbers += [int(n) for n, _ in records]
    return numbers
