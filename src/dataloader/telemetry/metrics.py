"""What a process counts about itself, in a registry of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from dataloader.telemetry.fleet import Fleet, FleetCollector
from dataloader.telemetry.histogram import BatchHistogram

_WAIT_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300, 900, 3_600, 14_400, 86_400)
_RUN_BUCKETS: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400)
_HTTP_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_LAG_BUCKETS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60)


class Metrics:
    """Counters and histograms of this process; every method may be called from any thread."""

    content_type: Final = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Info("dataloader_build", "The running version", registry=self.registry).info({"version": version("dataloader")})
        self._claimed = self._counter("jobs_claimed", "Jobs this process claimed", "queue", "task")
        self._settled = self._counter("jobs_settled", "Runs this process ended", "queue", "task", "status")
        self._leases_lost = self._counter("leases_lost", "Runs whose lease was lost", "reason")
        self._rows = self._counter("rows_loaded", "Rows written by committed chunks", "task")
        self._lineage = self._counter("lineage_events", "Events of lineage by what became of them", "result")
        self._database_errors = self._counter("database_errors", "Failed uses of the service's database", "purpose")
        self._requests = self._counter("http_requests", "HTTP requests answered", "method", "route", "status")
        self._wait = self._batch_histogram("job_wait_seconds", "From due to claimed", _WAIT_BUCKETS)
        self._run = self._batch_histogram("job_run_seconds", "From claimed to ended", _RUN_BUCKETS)
        self._lag = self._histogram("loop_lag_seconds", "How late an event loop wakes up", _LAG_BUCKETS, "loop")
        self._request = self._histogram("http_request_seconds", "Time to answer", _HTTP_BUCKETS, "method", "route")
        self._running = Gauge(
            "dataloader_process_jobs_running", "Jobs this process runs now", ["queue"], registry=self.registry
        )
        self._requests_in_progress = Gauge(
            "dataloader_http_requests_in_progress", "HTTP requests not answered yet", registry=self.registry
        )

    def _counter(self, name: str, doc: str, *labels: str) -> Counter:
        return Counter(f"dataloader_{name}", doc, labels, registry=self.registry)

    def _histogram(self, name: str, doc: str, buckets: Iterable[float], *labels: str) -> Histogram:
        return Histogram(f"dataloader_{name}", doc, labels, buckets=tuple(buckets), registry=self.registry)

    def _batch_histogram(self, name: str, doc: str, buckets: Sequence[float]) -> BatchHistogram:
        histogram = BatchHistogram(f"dataloader_{name}", doc, buckets, ("queue", "task"))
        self.registry.register(histogram)
        return histogram

    def claimed(self, queue: str, task: str, waits_s: Sequence[float]) -> None:
        """Count claims; each value is the time since a job was due."""
        self._claimed.labels(queue, task).inc(len(waits_s))
        self._wait.observe((queue, task), waits_s)

    def settled(self, queue: str, task: str, status: str, runs_s: Sequence[float]) -> None:
        """Count ends of runs by how long they took; `status` is what the jobs became."""
        self._settled.labels(queue, task, status).inc(len(runs_s))
        self._run.observe((queue, task), runs_s)

    def lease_lost(self, reason: str) -> None:
        """Count a run that had to stop because its lease was gone."""
        self._leases_lost.labels(reason).inc()

    def rows_loaded(self, task: str, count: int) -> None:
        """Count rows of a committed chunk."""
        self._rows.labels(task).inc(count)

    def lineage(self, result: str) -> None:
        """Count an event of lineage: sent, refused by the receiver, or failed and to be told again."""
        self._lineage.labels(result).inc()

    def running(self, queue: str, count: int) -> None:
        """Say how many jobs of a queue this process runs now."""
        self._running.labels(queue).set(count)

    def loop_lag(self, loop: str, seconds: float) -> None:
        """Record how late an event loop woke up."""
        self._lag.labels(loop).observe(max(seconds, 0.0))

    def database_error(self, purpose: str) -> None:
        """Count a failed use of the service's database."""
        self._database_errors.labels(purpose).inc()

    def http_request_in_progress(self) -> AbstractContextManager[None]:
        """Count a request as long as it is being answered."""
        return self._requests_in_progress.track_inprogress()

    def http_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answered request; `route` is the template, so that ids do not become labels."""
        self._requests.labels(method, route, str(status)).inc()
        self._request.labels(method, route).observe(seconds)

    def render(self, fleet: Fleet | None = None) -> bytes:
        """Return the text for a scrape; `fleet` is what the database knows, None when it is away."""
        return generate_latest(_Joined(self.registry, FleetCollector(fleet)))


class _Joined(Collector):
    """Several collectors as one, without the series of creation times."""

    def __init__(self, *parts: Collector) -> None:
        self._parts = parts

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all parts."""
        for part in self._parts:
            for metric in part.collect():
                metric.samples = [sample for sample in metric.samples if not _is_creation(metric, sample)]
                yield metric


def _is_creation(metric: Metric, sample: Sample) -> bool:
    return sample.name == f"{metric.name}_created"
