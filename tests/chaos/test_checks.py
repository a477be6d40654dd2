"""A check that cannot fail proves nothing."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.chaos.checks import Ordered, Span, not_exactly_once, out_of_order, overlaps, quantile, server_errors, unrest
from tests.chaos.matrix.service import explained
from tests.chaos.processes import TABLES


def at(second: float) -> datetime:
    return datetime.fromtimestamp(second, UTC)


@pytest.mark.parametrize(
    ("stays", "found"),
    [
        ([("k", 0, 1), ("k", 1, 2)], 0),
        ([("k", 0, 2), ("j", 1, 3)], 0),
        ([("k", 0, 2), ("k", 1, 3)], 1),
        ([("k", 1, 3), ("k", 0, 2)], 1),
        ([("k", 0, None), ("k", 5, 6)], 1),
    ],
)
def test_overlaps_are_found(stays: list[tuple[str, float, float | None]], found: int) -> None:
    spans = [Span(key, at(entered), None if left is None else at(left)) for key, entered, left in stays]
    assert len(overlaps(spans)) == found


@pytest.mark.parametrize(
    ("jobs", "wrong"),
    [
        ([("p", 0, 1, 10), ("p", 2, 3, 11)], 0),
        ([("p", 0, 2, 11), ("p", 1, 3, 10)], 0),
        ([("p", 0, 1, 11), ("q", 2, 3, 10)], 0),
        ([("p", 0, 1, 11), ("p", 2, 3, 10)], 1),
        ([("p", 4, 5, 1), ("p", 0, 6, 2), ("p", 2, 3, 3)], 1),
    ],
)
def test_a_wrong_order_is_found(jobs: list[tuple[str, float, float, float]], wrong: int) -> None:
    assert out_of_order([Ordered(*job) for job in jobs]) == wrong


async def test_missing_double_and_strange_rows_are_found(pg: Any) -> None:
    await pg.execute(TABLES)
    job, other = uuid4(), uuid4()
    rows = [(job, 0, 0, 1), (job, 1, 0, 1), (job, 1, 0, 2), (other, 0, 0, 1)]
    await pg.copy_records_to_table("loaded", records=rows)
    found = await not_exactly_once(pg, [(job, chunk, 0) for chunk in range(3)])
    assert found == {"missing": 1, "twice": 1, "strange": 1}


async def test_what_is_left_is_found(pg: Any, settings: Any) -> None:
    from dataloader.storage.db import connect  # noqa: PLC0415 - this test alone needs it

    other = await connect(settings, purpose="test")
    await other.execute("select pg_advisory_lock(1); begin")
    found = await unrest(pg)
    other.terminate()
    assert found == {"advisory": 1, "idle_in_transaction": 1, "chunks": 0, "connections": 1}


async def test_the_servers_complaints_are_found(pg: Any, database: str, server_log: Path | None) -> None:
    if server_log is None:
        pytest.skip("the server's log lies elsewhere")
    await pg.execute("do $$ begin create table t (n int primary key); insert into t values (1); end $$")
    with pytest.raises(Exception, match="duplicate key"):
        await pg.execute("insert into t values (1)")
    assert server_errors(server_log, database) == {"unique violations": 1, "deadlocks": 0}


def test_quantiles_are_of_the_values_themselves() -> None:
    values = [float(n) for n in range(100)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile([7.0], 0.99)) == (50, 99, 7)


@pytest.mark.parametrize(
    ("code", "done", "is_explained"),
    [
        (0, ["SIGTERM"], True),
        (0, [], False),
        (-15, ["SIGTERM"], True),
        (143, ["SIGTERM"] * 3, True),
        (143, ["SIGTERM"] * 2, False),
        (1, ["SIGTERM"], False),
        (1, ["SIGTERM", "SIGSTOP"], True),
        (1, ["error"], True),
        (-9, ["SIGKILL"], True),
        (-9, ["SIGTERM"], False),
        (139, ["SIGKILL", "SIGTERM"], False),
    ],
)
def test_an_end_that_nothing_explains_is_found(code: int, done: list[str], *, is_explained: bool) -> None:
    assert explained(code, Counter(done)) is is_explained
