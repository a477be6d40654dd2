"""What is written down of runs: the notable ones each, the others together."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import structlog
from structlog.stdlib import BoundLogger

from dataloader.context import AppContext
from dataloader.domain.jobs import ClaimedJob, JobStatus, Lease
from dataloader.domain.outcomes import Canceled, Outcome, Succeeded
from dataloader.telemetry.metrics import Metrics
from dataloader.workers.pipelines.registry import Registry, register
from dataloader.workers.run_log import RunLog
from dataloader.workers.runs import Run


@pytest.fixture
def told() -> list[dict[str, Any]]:
    """Every line that was written."""
    return []


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def make_log(told: list[dict[str, Any]], metrics: Metrics) -> Any:
    """Build a log at a level."""

    def make(level: int = logging.INFO) -> RunLog:
        def keep(_: object, __: str, entry: Any) -> Any:
            told.append(dict(entry))
            raise structlog.DropEvent

        target = logging.getLogger(f"test {level}")
        target.setLevel(level)
        logger = BoundLogger(target, processors=[keep], context={})
        ctx = SimpleNamespace(loggers=SimpleNamespace(app=logger, metric=logger), metrics=metrics)
        return RunLog(cast("AppContext", ctx), "q")

    return make


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @register("t", queue="q", registry=registry)
    async def pipeline(args: dict[str, object]) -> Any:
        yield

    return registry


def end(log: RunLog, registry: Registry, *, took_s: float = 0.0, outcome: Outcome | None = None, rows: int = 0) -> Run:
    """Tell the log of a run."""
    run = Run(ClaimedJob(Lease(uuid4(), 1), "q", "t", {}), registry.get("t"), claim_sent_s=0.0)
    run.rows = rows
    status = JobStatus.CANCELED if outcome else JobStatus.SUCCEEDED
    log.settled(run, outcome or Succeeded(), status, run.started_s + took_s)
    return run


def events(told: list[dict[str, Any]]) -> list[str]:
    return [entry["event"] for entry in told]


def test_short_runs_share_a_line_with_their_count(
    make_log: Any, registry: Registry, told: list[dict[str, Any]]
) -> None:
    log = make_log()
    for _ in range(1_000):
        end(log, registry, took_s=0.25)
    log.flush(0)

    assert events(told) == ["job runs", "jobs settled"]
    assert (told[1]["count"], told[1]["total_s"], told[1]["max_s"]) == (1_000, 250.0, 0.25)


def test_a_single_short_run_is_named(make_log: Any, registry: Registry, told: list[dict[str, Any]]) -> None:
    log = make_log()
    run = end(log, registry, took_s=0.25)
    log.flush(0)

    assert events(told) == ["job run", "job settled"]
    assert told[1]["job_id"] == str(run.lease.job_id)


@pytest.mark.parametrize("notable", [{"took_s": 1.5}, {"outcome": Canceled()}, {"rows": 3}])
def test_a_run_that_took_long_or_wrote_rows_or_did_not_succeed_has_its_own_lines(
    make_log: Any, registry: Registry, told: list[dict[str, Any]], notable: dict[str, Any]
) -> None:
    log = make_log()
    end(log, registry, **notable)
    end(log, registry)
    end(log, registry)
    log.flush(0)

    assert events(told) == ["job run", "job settled", "job runs", "jobs settled"]


def test_at_debug_every_run_has_its_own_lines(make_log: Any, registry: Registry, told: list[dict[str, Any]]) -> None:
    log = make_log(logging.DEBUG)
    end(log, registry)
    end(log, registry)
    log.flush(0)

    assert events(told) == ["job run", "job settled"] * 2


def test_the_shared_line_comes_at_most_once_a_second_and_misses_nobody(
    make_log: Any, registry: Registry, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr("dataloader.workers.run_log.time", SimpleNamespace(monotonic=lambda: now_s[0]))
    log = make_log()
    for after_s in (0.0, 0.4, 0.4, 0.4):
        now_s[0] += after_s
        end(log, registry)
        end(log, registry)
        log.flush(0)

    assert [entry["count"] for entry in told if entry["event"] == "jobs settled"] == [2, 6]


def test_every_run_is_counted_once(make_log: Any, registry: Registry, metrics: Metrics) -> None:
    log = make_log()
    for _ in range(3):
        end(log, registry, took_s=0.2)
        end(log, registry, took_s=2.0)
        log.flush(0)
    text = metrics.render().decode()

    assert 'dataloader_jobs_settled_total{queue="q",status="succeeded",task="t"} 6.0' in text
    assert 'dataloader_job_run_seconds_bucket{le="0.5",queue="q",task="t"} 3.0' in text
    assert 'dataloader_job_run_seconds_bucket{le="+Inf",queue="q",task="t"} 6.0' in text
    assert 'dataloader_job_run_seconds_count{queue="q",task="t"} 6.0' in text
