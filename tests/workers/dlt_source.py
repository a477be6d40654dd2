"""A dlt source for the tests; the children import it by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dlt


@dlt.source
def numbers(
    upto: int = 3,
    *,
    page: int = 1,
    endless: bool = False,
    fail: bool = False,
    die_once: str | None = None,
) -> tuple[Any, ...]:
    """Numbers beyond those of the last load, and names by key."""

    @dlt.resource(write_disposition="append")
    def grown(n: Any = dlt.sources.incremental("n", initial_value=0)) -> Iterator[Any]:  # noqa: B008 - dlt's way
        if fail:
            raise ValueError("on purpose")
        if die_once is not None and not Path(die_once).exists():
            Path(die_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        yield [{"n": value} for value in range(n.last_value + 1, upto + 1)]
        value = upto
        while endless:
            value += 1
            yield {"n": value}

    @dlt.resource(write_disposition="merge", primary_key="id")
    def names() -> Iterator[Any]:
        yield [{"id": value, "name": f"of {upto}"} for value in range(3)]

    return grown, names


def unfit() -> int:
    """Return what is no source."""
    return 1
