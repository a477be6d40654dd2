"""Tells the job how far dlt has come."""

from __future__ import annotations

from collections import Counter

from dlt.common.runtime.collector_base import Collector

from dataloader.workers.job_context import JobContext


class StoppedError(Exception):
    """The run was told to stop; it ends dlt at its next count."""


class JobCollector(Collector):
    """A dlt collector that reports to a job.

    Args:
        ctx: The job.
    """

    def __init__(self, ctx: JobContext) -> None:
        self._ctx = ctx
        self._counts: Counter[str] = Counter()
        self._totals: dict[str, int] = {}
        self.step = ""

    def update(  # noqa: PLR0917 - dlt's signature
        self,
        name: str,
        inc: int = 1,
        total: int | None = None,
        inc_total: int | None = None,
        message: str | None = None,
        label: str | None = None,
    ) -> None:
        """Count, and report.

        Raises:
            StoppedError: The run was told to stop.
        """
        if self._ctx.cancel_requested:
            raise StoppedError
        if label is not None:
            return
        self._counts[name] += inc
        if total is not None:
            self._totals[name] = total
        if inc_total is not None:
            self._totals[name] = self._totals.get(name, 0) + inc_total
        self._report()

    def _report(self) -> None:
        jobs = self.step.lower().startswith("load")
        names = [name for name in self._counts if name != "Resources" and not name.startswith("_dlt")]
        told = ", ".join(f"{name} {self._counts[name]}" for name in names)
        update: dict[str, object] = {"unit": "jobs" if jobs else "rows", "message": f"{self.step}: {told}"[:500]}
        if jobs:
            update |= {"done": self._counts["Jobs"], "total": self._totals.get("Jobs")}
        else:
            update |= {"done": self._counts.get("Items") or sum(self._counts[n] for n in names if n != "Files")}
        self._ctx.progress(**update)

    def _start(self, step: str) -> None:
        self.step = step
        self._counts.clear()
        self._totals.clear()
        self._ctx.progress(message=step)

    def _stop(self) -> None:
        pass
