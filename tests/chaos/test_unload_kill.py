"""SIGKILL at random moments of unloads into files and objects: each row in one part, and the manifest true."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dataloader.domain.jobs import NewJob
from tests.chaos.conftest import FULL, Size
from tests.chaos.killing import kill_again_and_again
from tests.chaos.processes import Fleet

TARGETS = ["directory", "bucket"]
"""The first one; `make chaos` goes to both."""

PARTS = "select jsonb_array_length(checkpoint->'parts') from dl_jobs where job_id = $1"


@dataclass(frozen=True, slots=True)
class Target:
    """Where files are written to.

    Attributes:
        address: As unloads are told.
        settings: Of the workers.
        files: All that is there.
        read: Reads one of them, by the name that the first gave.
    """

    address: str
    settings: dict[str, Any]
    files: Callable[[], list[str]]
    read: Callable[[str], bytes]


@pytest.fixture
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target]:
    """A directory or a folder of a bucket."""
    if request.param == "directory":
        out = tmp_path / "out"
        settings = {"dl_target_roots": str(tmp_path)}
        yield Target(
            str(out), settings, lambda: [str(path) for path in out.iterdir()], lambda name: Path(name).read_bytes()
        )
        return
    from tests.loading.stores import KEY, SECRET, led_to, serving  # noqa: PLC0415 - only here

    with serving() as server, led_to(server, monkeypatch) as store:
        settings = {
            "dl_target_buckets": "s3://market-data/",
            "aws_endpoint_url": store.url,
            "aws_access_key_id": KEY,
            "aws_secret_access_key": SECRET,
            "aws_default_region": "us-east-1",
        }
        address = "s3://market-data/out"
        yield Target(address, settings, lambda: store.files.find(address), store.files.cat_file)
        assert store.files.list_multipart_uploads("market-data") == []


@pytest.mark.parametrize("target", TARGETS if FULL else TARGETS[:1], indirect=True)
async def test_a_table_is_unloaded_once_whatever_is_killed(
    *,
    fleet: Fleet,
    pg: Any,
    target: Target,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
) -> None:
    kills, rows = size.pick(small=(2, 60_000), full=(30, 600_000))
    await pg.execute(
        "create table t (n int primary key, text text);"
        f"insert into t select n, format(E'row \"%s\"\\nof the table', n) from generate_series(1, {rows}) n"
    )
    args = {"table": "t", "target": target.address, "part_rows": rows // (kills * 6)}
    killed = await kill_again_and_again(
        fleet,
        pg,
        NewJob("unload.table", "unload.table", args),
        kills=kills,
        chance=chance,
        within_s=0.1,
        ask=PARTS,
        **target.settings,
    )
    row, parts = killed.row, killed.seen

    report(kills=kills, rows=rows, parts=parts[-3:], status=row["status"], error=row["error"])
    assert (row["status"], row["attempt"]) == ("succeeded", 1)
    assert parts == sorted(parts)
    assert _numbers(target) == list(range(1, rows + 1))


def _numbers(target: Target) -> list[int]:
    """Return the key of every row of the parts that the manifest names, and find it true."""
    files = {path.rpartition("/")[2]: path for path in target.files()}
    manifest = json.loads(target.read(files.pop("manifest.json")))
    assert sorted(files) == sorted(part["name"] for part in manifest["parts"])
    numbers: list[int] = []
    for part in manifest["parts"]:
        content = target.read(files[part["name"]])
        assert hashlib.sha256(content).hexdigest() == part["sha256"]
        records = list(csv.reader(io.StringIO(content.decode(), newline="")))[1:]
        assert len(records) == part["rows"]
        assert all(text == f'row "{n}"\nof the table' for n, text in records)
        numbers += [int(n) for n, _ in records]
    return numbers
