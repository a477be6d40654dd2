"""What a process counts about itself."""

from __future__ import annotations

from dataloader.telemetry.fleet import Fleet, QueueGauge
from dataloader.telemetry.metrics import Metrics


def _lines(metrics: Metrics, fleet: Fleet | None = None) -> list[str]:
    return metrics.render(fleet).decode().splitlines()


def test_what_workers_do_is_counted() -> None:
    metrics = Metrics()
    metrics.claimed("q", "t", [0.2])
    metrics.settled("q", "t", "succeeded", [3.0])
    metrics.lease_lost("expired")
    metrics.rows_loaded("t", 500)
    metrics.running("q", 2)
    metrics.loop_lag("api", 0.004)
    metrics.database_error("claims")

    lines = _lines(metrics)

    assert 'dataloader_jobs_claimed_total{queue="q",task="t"} 1.0' in lines
    assert 'dataloader_job_wait_seconds_sum{queue="q",task="t"} 0.2' in lines
    assert 'dataloader_jobs_settled_total{queue="q",status="succeeded",task="t"} 1.0' in lines
    assert 'dataloader_job_run_seconds_bucket{le="5.0",queue="q",task="t"} 1.0' in lines
    assert 'dataloader_leases_lost_total{reason="expired"} 1.0' in lines
    assert 'dataloader_rows_loaded_total{task="t"} 500.0' in lines
    assert 'dataloader_process_jobs_running{queue="q"} 2.0' in lines
    assert 'dataloader_loop_lag_seconds_count{loop="api"} 1.0' in lines
    assert 'dataloader_database_errors_total{purpose="claims"} 1.0' in lines


def test_a_clock_that_runs_backwards_counts_as_no_time() -> None:
    metrics = Metrics()
    metrics.claimed("q", "t", [-5.0])

    assert 'dataloader_job_wait_seconds_sum{queue="q",task="t"} 0.0' in _lines(metrics)


def test_two_processes_in_one_interpreter_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.lease_lost("x")

    assert not any("leases_lost_total{" in line for line in _lines(second))


def test_the_fleet_is_shown_only_while_the_database_is_there() -> None:
    queue = QueueGauge("q", {"ready": 3}, oldest_due_s=1.5, paused=True, slots=4)

    there = _lines(Metrics(), Fleet((queue,), workers=2, expired_leases=1))
    away = _lines(Metrics())

    assert 'dataloader_queue_jobs{queue="q",state="ready"} 3.0' in there
    assert 'dataloader_queue_oldest_due_seconds{queue="q"} 1.5' in there
    assert 'dataloader_queue_paused{queue="q"} 1.0' in there
    assert {"dataloader_database_up 1.0", "dataloader_workers 2.0", "dataloader_expired_leases 1.0"} <= set(there)
    assert "dataloader_database_up 0.0" in away
    assert not any("dataloader_queue" in line for line in away)
