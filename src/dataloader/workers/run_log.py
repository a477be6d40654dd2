"""What is counted and written down of the runs of a queue; a hundred thousand short ones cost next to nothing."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from dataloader.context import AppContext
from dataloader.domain.jobs import ClaimedJob, JobStatus
from dataloader.domain.outcomes import Abandoned, Outcome
from dataloader.workers.runs import Run

NOTABLE_S = 1.0
"""A run that took as long, wrote rows or did not succeed has lines of its own; the others share one."""

SUMMARY_PERIOD_S = 1.0


@dataclass(slots=True)
class RunSum:
    """Short runs that no line has spoken of yet."""

    count: int = 0
    total_s: float = 0.0
    max_s: float = 0.0

    def add(self, seconds: Sequence[float]) -> None:
        """Take more of them."""
        self.count += len(seconds)
        self.total_s += sum(seconds)
        self.max_s = max(self.max_s, *seconds)


class RunLog:
    """Metrics and log lines of the runs of one queue.

    Args:
        ctx: The process.
        queue: The queue.
    """

    def __init__(self, ctx: AppContext, queue: str) -> None:
        self._ctx = ctx
        self._queue = queue
        self._logger = ctx.loggers.app
        self._every_one = self._logger.isEnabledFor(logging.DEBUG)
        self._times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        self._short: defaultdict[str, list[float]] = defaultdict(list)
        self._unsaid: defaultdict[str, RunSum] = defaultdict(RunSum)
        self._last: tuple[Run, Outcome] | None = None
        self._said_s = 0.0

    def claimed(self, jobs: Sequence[ClaimedJob]) -> None:
        """Count claims."""
        waits: defaultdict[str, list[float]] = defaultdict(list)
        for job in jobs:
            waits[job.task].append(job.wait_s)
        for task, seconds in waits.items():
            self._ctx.metrics.claimed(self._queue, task, seconds)

    def settled(self, run: Run, outcome: Outcome, status: JobStatus, now_s: float) -> None:
        """Note the end of a run."""
        run_s = now_s - run.started_s
        if run_s < NOTABLE_S and status is JobStatus.SUCCEEDED and not run.rows and not self._every_one:
            self._short[run.job.task].append(run_s)
            self._last = (run, outcome)
            return
        self._times[run.job.task, status].append(run_s)
        self._write(run, outcome, status, run_s)

    def fenced(self, run: Run, outcome: Outcome, now_s: float) -> None:
        """Note a run whose end nobody may write."""
        reason = outcome.reason if isinstance(outcome, Abandoned) else "lease lost"
        self._ctx.metrics.lease_lost("fenced")
        self._logger.warning(
            "run was fenced, its result is dropped", **self._facts(run, now_s - run.started_s), reason=reason
        )

    def flush(self, active: int) -> None:
        """Count what has ended; once a second, say how many short runs there were."""
        self._ctx.metrics.running(self._queue, active)
        for (task, status), seconds in self._times.items():
            self._ctx.metrics.settled(self._queue, task, status, seconds)
        self._times.clear()
        for task, seconds in self._short.items():
            self._ctx.metrics.settled(self._queue, task, JobStatus.SUCCEEDED, seconds)
            self._unsaid[task].add(seconds)
        self._short.clear()
        now_s = time.monotonic()
        if self._unsaid and now_s - self._said_s >= SUMMARY_PERIOD_S:
            self._said_s = now_s
            self._sum_up()

    def close(self) -> None:
        """Say what no line has spoken of yet."""
        self.flush(0)
        self._sum_up()

    def _sum_up(self) -> None:
        for task, runs in self._unsaid.items():
            if runs.count == 1 and self._last is not None and self._last[0].job.task == task:
                self._write(*self._last, JobStatus.SUCCEEDED, runs.total_s)
                continue
            times = {"total_s": round(runs.total_s, 3), "max_s": round(runs.max_s, 3)}
            facts = {"task": task, "queue": self._queue, "count": runs.count, **times}
            self._ctx.loggers.metric.info("job runs", **facts)
            self._logger.info("jobs settled", **facts, status=JobStatus.SUCCEEDED)
        self._unsaid.clear()
        self._last = None

    def _write(self, run: Run, outcome: Outcome, status: JobStatus, run_s: float) -> None:
        facts = self._facts(run, run_s)
        self._ctx.loggers.metric.info("job run", **facts, status=status, rows=run.rows)
        self._logger.info("job settled", **facts, outcome=type(outcome).__name__.lower(), status=status)

    def _facts(self, run: Run, run_s: float) -> dict[str, object]:
        return {
            "job_id": str(run.lease.job_id),
            "task": run.job.task,
            "queue": self._queue,
            "epoch": run.lease.epoch,
            "run_s": round(run_s, 3),
        }
