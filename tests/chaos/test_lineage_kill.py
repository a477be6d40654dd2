"""SIGKILL of the process that tells of runs: another one goes on, and nothing is left out."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from dataloader.config import Settings
from dataloader.domain.jobs import NewJob
from tests.chaos.conftest import Size
from tests.chaos.processes import Fleet
from tests.lineage.receiver import receiving
from tests.lineage.rules import check_runs
from tests.workers.harness import enqueue, eventually, finished

TAKEOVER_S = 15


async def test_after_a_kill_another_process_tells_the_rest_soon_and_repeats_to_the_letter(
    fleet: Fleet, pg: Any, settings: Settings, size: Size, report: Callable[..., None]
) -> None:
    if not size.full:
        pytest.skip("make chaos")
    async with receiving(delay_s=0.05) as receiver:
        killed = fleet.start(queues={"noop": 2}, dl_lineage_url=receiver.url)
        await eventually(lambda: pg.fetchval("select exists (select from dl_lineage)"))
        jobs = [NewJob("noop", "noop", {"chunks": 1, "sleep_s": 0}) for _ in range(10)]
        await finished(pg, await enqueue(pg, settings, *jobs))
        await receiver.is_asked(3)
        killed.signal(signal.SIGKILL)
        await killed.ends()
        killed_s, told = time.monotonic(), len(receiver.events)
        fleet.start(queues={"noop": 2}, dl_lineage_url=receiver.url)
        await receiver.hears(10)
        taken_over_s = time.monotonic() - killed_s

    texts = [json.dumps(event) for event in receiver.events]
    different = list(dict.fromkeys(texts))
    report(taken_over_s=taken_over_s, told_before=told, events=len(different), repeated=len(texts) - len(different))
    assert 2 <= told < len(different) < len(texts)
    assert taken_over_s < TAKEOVER_S
    check_runs([json.loads(text) for text in different])
