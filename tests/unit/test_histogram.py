"""The histogram of batches counts as the client library's own does, value by value."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from dataloader.telemetry.histogram import BatchHistogram

BOUNDS = (0.001, 0.5, 1.0, 60.0)
VALUES = st.lists(st.sampled_from(BOUNDS) | st.floats(0, 100, allow_nan=False).map(lambda value: round(value, 3)))


@given(st.lists(VALUES, max_size=5))
def test_batches_are_counted_like_single_values(batches: list[list[float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    batch_histogram = BatchHistogram("run", "Runs", BOUNDS, ["task"])
    ours.register(batch_histogram)
    histogram = Histogram("run", "Runs", ["task"], buckets=BOUNDS, registry=theirs)
    histogram.labels("a")

    batch_histogram.observe(("a",), [])
    for batch in batches:
        batch_histogram.observe(("a",), batch)
        for value in batch:
            histogram.labels("a").observe(value)

    assert samples(ours) == samples(theirs)


def test_a_value_below_zero_counts_as_zero() -> None:
    registry = CollectorRegistry()
    batch_histogram = BatchHistogram("run", "Runs", BOUNDS, ["task"])
    registry.register(batch_histogram)

    batch_histogram.observe(("a",), [-5.0, 2.0])

    found = samples(registry)
    assert found["run_sum"] == 2.0
    assert found['run_bucket le="0.001"'] == found['run_bucket le="1.0"'] == 1.0
    assert found['run_bucket le="60.0"'] == found["run_count"] == 2.0


def samples(registry: CollectorRegistry) -> dict[str, float]:
    """Return what is told of the one series, by name and bucket."""
    found = {}
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith("run_") and "_created" not in line:
            name, value = line.rsplit(" ", 1)
            key = name.replace("{", " ").replace("}", "").replace('task="a"', "").replace(",", "").strip()
            found[key] = round(float(value), 6)
    return found
