"""What the database knows of all processes together, as metrics of one scrape."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class QueueGauge:
    """One queue at the moment of the scrape.

    Attributes:
        jobs: Number of jobs by state: `ready`, `waiting`, `running`; counted up to a limit.
        oldest_due_s: How long the oldest due job has waited, None when none is due.
        slots: Concurrency of the live workers together.
    """

    queue: str
    jobs: dict[str, int]
    oldest_due_s: float | None
    paused: bool
    slots: int


@dataclass(frozen=True, slots=True)
class Fleet:
    """All queues, and how many worker processes are alive."""

    queues: tuple[QueueGauge, ...]
    workers: int
    expired_leases: int


class FleetCollector(Collector):
    """Turns a snapshot into metrics; without one it only says that the database is away."""

    def __init__(self, fleet: Fleet | None) -> None:
        self._fleet = fleet

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of the snapshot."""
        yield _gauge("database_up", "Whether this process reached the database", float(self._fleet is not None))
        if self._fleet is not None:
            yield _gauge("workers", "Live worker processes", float(self._fleet.workers))
            yield _gauge("expired_leases", "Running jobs whose lease is over", float(self._fleet.expired_leases))
            yield from _queue_metrics(self._fleet.queues)


def _gauge(name: str, doc: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"dataloader_{name}", doc, value=value)


def _queue_metrics(queues: Iterable[QueueGauge]) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "dataloader_queue_jobs", "Unfinished jobs, counted up to a limit", labels=["queue", "state"]
    )
    age = GaugeMetricFamily("dataloader_queue_oldest_due_seconds", "Age of the oldest due job", labels=["queue"])
    paused = GaugeMetricFamily("dataloader_queue_paused", "Whether the queue is paused", labels=["queue"])
    slots = GaugeMetricFamily("dataloader_queue_slots", "Concurrency of the live workers", labels=["queue"])
    for one in queues:
        for state, count in one.jobs.items():
            jobs.add_metric([one.queue, state], count)
        age.add_metric([one.queue], one.oldest_due_s or 0.0)
        paused.add_metric([one.queue], float(one.paused))
        slots.add_metric([one.queue], one.slots)
    return (jobs, age, paused, slots)
