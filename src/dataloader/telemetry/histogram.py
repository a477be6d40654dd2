"""A histogram that takes many values at once."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from threading import Lock

from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector


class BatchHistogram(Collector):
    """Counts values per bucket; may be used from any thread.

    Args:
        name: Name of the metric.
        doc: One line for people.
        buckets: Upper bounds, ascending; one without a bound is added.
        labels: Names of the labels.
    """

    def __init__(self, name: str, doc: str, buckets: Sequence[float], labels: Sequence[str]) -> None:
        self._name = name
        self._doc = doc
        self._labels = labels
        self._bounds = tuple(map(float, buckets))
        self._lock = Lock()
        self._series: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}

    def observe(self, labels: tuple[str, ...], values: Sequence[float]) -> None:
        """Count values; one below zero, from a clock that was set back, counts as zero."""
        ordered = sorted(values)
        with self._lock:
            counts, total = self._series.setdefault(labels, ([0] * (len(self._bounds) + 1), [0.0]))
            counted = 0
            while counted < len(ordered):
                place = bisect_left(self._bounds, ordered[counted])
                last = place == len(self._bounds)
                upto = len(ordered) if last else bisect_right(ordered, self._bounds[place], counted)
                counts[place] += upto - counted
                counted = upto
            total[0] += sum(ordered[bisect_right(ordered, 0.0) :])

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Return all series."""
        family = HistogramMetricFamily(self._name, self._doc, labels=self._labels)
        with self._lock:
            for labels, (counts, total) in self._series.items():
                family.add_metric(labels, self._cumulated(counts), total[0])
        yield family

    def _cumulated(self, counts: Sequence[int]) -> list[tuple[str, float]]:
        buckets, so_far = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), counts, strict=True):
            so_far += count
            buckets.append((bound, float(so_far)))
        return buckets
