"""What checkpoints of unloads hold."""

from __future__ import annotations

import json

from dataloader.connectors.unloading import Part
from dataloader.domain.json_values import dump_storable
from dataloader.workers.pipelines.unload_table.pipeline import MAX_PARTS
from dataloader.workers.pipelines.unload_table.state import UnloadState

MEBIBYTE = 1024 * 1024


def largest() -> UnloadState:
    """Return a state of as many parts as there may be, replacing as many, of a wide table."""
    names = [f"part-{number:05}-0123456789ab-01234567.csv.gz" for number in range(MAX_PARTS)]
    return UnloadState(
        columns=tuple((f"{number:0>40}", "timestamp with time zone") for number in range(1_600)),
        key=("k" * 63, "l" * 63),
        mark="-0123456789ab",
        after=("x" * 1_000, "y" * 1_000),
        row_bytes=123.456789012345,
        about_rows=10**12,
        parts=tuple(Part(name, f"{name}.01234567", 10**9, 10**11, "f" * 64) for name in names),
        complete=True,
        finished_at="2026-01-01T00:00:00+00:00",
        replaced=tuple(names),
    )


def test_a_checkpoint_of_the_most_parts_fits() -> None:
    assert len(dump_storable(largest().as_json())) < MEBIBYTE


def test_a_checkpoint_comes_back_as_it_was() -> None:
    assert UnloadState.of(json.loads(dump_storable(largest().as_json()))) == largest()
