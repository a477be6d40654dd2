"""The matrix must follow the code: a seam that is gone is an error, a fail point that does not fire proves nothing."""

from __future__ import annotations

import dataclasses
import struct
from pathlib import Path

import asyncpg
import pytest

from tests.chaos.matrix.dropping import CommitFilter, Frames, backend_of
from tests.chaos.matrix.failpoints import InjectedError, MissingSeamError, _with_fail_point, found
from tests.chaos.matrix.orders import Action, Order, Orders
from tests.chaos.matrix.seams import PROCESS, SEAMS, Seam, cells


@pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.name)
def test_every_seam_is_where_the_matrix_says(seam: Seam) -> None:
    _, name, method = found(seam)
    assert name == method.__name__
    assert (Action.CUT in seam.actions) == (seam.connection is not None)


@pytest.mark.parametrize(
    "gone",
    [
        dataclasses.replace(SEAMS[0], target="dataloader.workers.gone:Drain._begin"),
        dataclasses.replace(SEAMS[0], target="dataloader.workers.drain:Gone._begin"),
        dataclasses.replace(SEAMS[0], target="dataloader.workers.drain:Drain.gone"),
        dataclasses.replace(SEAMS[0], connection="gone"),
    ],
)
def test_a_seam_that_is_gone_is_an_error(gone: Seam) -> None:
    with pytest.raises(MissingSeamError):
        found(gone)


def test_no_cell_is_named_twice() -> None:
    named = list(cells())
    assert len(named) == len(set(named))


async def test_an_order_is_obeyed_once_at_its_seam_and_written_down_before(tmp_path: Path) -> None:
    orders, seam = Orders(tmp_path), Seam("here", "-", PROCESS, when=lambda arguments, _: arguments["n"] > 1)

    async def method(n: int) -> int:
        return n

    passed = _with_fail_point(seam, method, orders)
    orders.give(Order(7, "here", Action.RAISE))
    orders.give(Order(8, "elsewhere", Action.RAISE))
    assert await passed(1) == 1
    with pytest.raises(InjectedError):
        await passed(2)
    assert await passed(2) == 2
    assert [(note["number"], note["seam"]) for note in orders.news()] == [(7, "here")]
    assert not list(orders.news())
    assert orders.withdraw(Order(8, "elsewhere", Action.RAISE))
    assert not orders.withdraw(Order(8, "elsewhere", Action.RAISE))


def test_a_fail_point_after_a_method_strikes_when_its_work_is_done(tmp_path: Path) -> None:
    orders = Orders(tmp_path)
    calls: list[str] = []
    passed = _with_fail_point(Seam("here", "-", PROCESS, after=True), calls.append, orders)
    orders.give(Order(1, "here", Action.REFUSE))
    with pytest.raises(asyncpg.LockNotAvailableError):
        passed("done")
    assert calls == ["done"]


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def test_frames_are_cut_wherever_the_bytes_are() -> None:
    stream = message(b"R", b"\0\0\0\0") + message(b"K", struct.pack("!ii", 4711, 1)) + message(b"Z", b"I")
    frames = Frames()
    found = [one for n in range(len(stream)) for one in frames.feed(stream[n : n + 1])]
    assert [kind for kind, _ in found] == [b"R", b"K", b"Z"]
    assert b"".join(whole for _, whole in found) == stream
    assert backend_of(found) == 4711


@pytest.mark.parametrize("size", [1, 3, 1_000])
@pytest.mark.parametrize("end", [message(b"C", b"COMMIT\0"), message(b"s", b"")], ids=["all rows", "first row"])
def test_only_the_answer_to_a_commit_is_lost(size: int, end: bytes) -> None:
    inside = message(b"1", b"") + message(b"C", b"INSERT 0 1\0") + message(b"Z", b"T")
    prepared = message(b"1", b"") + message(b"Z", b"I")
    commit = end + message(b"Z", b"I")
    stream = inside + prepared + commit
    filter_, passed = CommitFilter(), b""
    for place in range(0, len(stream), size):
        if (part := filter_.feed(stream[place : place + size])) is None:
            break
        passed += part
    else:
        pytest.fail("the answer to the commit got through")
    assert passed == (inside + prepared if size < 1_000 else b"")
