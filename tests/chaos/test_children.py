"""SIGKILL of a child and of its parent, at random moments: each row is there exactly once at the end."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.checks import not_exactly_once, read_ledger
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.workers.harness import enqueue, eventually, finished

ROWS = 5


async def test_a_load_in_a_child_survives_kills_of_child_and_parent(
    *,
    fleet: Fleet,
    pg: Any,
    settings: Settings,
    tmp_path: Path,
    size: Size,
    chance: random.Random,
    report: Callable[..., None],
) -> None:
    kills, chunks = size.pick(small=(2, 40), full=(30, 300))
    ledger = tmp_path / "ledger"
    args = {"chunks": chunks, "rows": ROWS, "sleep_s": 0.1, "ledger": str(ledger)}
    (job_id,) = await enqueue(pg, settings, NewJob("chaos", "chaos.load_in_child", args))
    worker = fleet.start(dl_default_lease_ttl_sec=2)
    epoch = 0
    for kill in range(kills):
        epoch, pid = await eventually(partial(_newest, ledger, epoch))
        await asyncio.sleep(chance.uniform(0, 0.4))
        if kill % 2:
            await worker.kill()
            await eventually(partial(_is_gone, pid))
            worker = fleet.start(dl_default_lease_ttl_sec=2)
        else:
            os.kill(pid, signal.SIGKILL)
    (row,) = await finished(pg, [job_id], within_s=60)

    wrong = await not_exactly_once(pg, [(job_id, chunk, n) for chunk in range(chunks) for n in range(ROWS)])
    report(kills=kills, chunks=chunks, tries=len(read_ledger(ledger)), wrong_rows=wrong)
    assert not any(wrong.values())
    assert row["status"] == "succeeded"
    assert row["epoch"] > kills


async def _newest(ledger: Path, after: int) -> tuple[int, int] | None:
    """Return epoch and pid of the newest run behind an epoch, once it has begun two chunks."""
    runs = [(note["epoch"], note["pid"]) for note in await asyncio.to_thread(read_ledger, ledger)]
    return runs[-1] if len(runs) > 1 and runs[-1] == runs[-2] and runs[-1][0] > after else None


async def _is_gone(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return True
