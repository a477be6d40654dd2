"""One run of a job in this process: what its parts on several threads share about it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from enum import IntEnum

from dataloader.domain.jobs import ClaimedJob, Lease
from dataloader.domain.progress import Progress, ProgressMeter
from dataloader.workers.pipelines.spec import TaskSpec

FINAL_STAGE = 2
"""A run whose ladder has gone this far is renewed no more, neither by heartbeat nor by chunk: its lease expires."""


class StopReason(IntEnum):
    """Why a run is to end before its pipeline does; a higher one overrules a lower one."""

    HAND_OVER = 1
    CANCEL = 2
    TIMEOUT = 3
    STALL = 4
    CUT_OFF = 5
    LEASE_LOST = 6


class Run:
    """The state of a run. Fields are single values that threads read and replace whole; no lock is needed.

    Attributes:
        lease: The fence of this run.
        renewed_s: Monotonic time at which the last accepted renewal of the lease was sent.
        touched_s: Monotonic time of the last safe point.
        stop: Why the run is to end, None while it may go on.
        stop_since_s: Monotonic time at which it was first asked to end.
        advanced: Whether this run has committed a checkpoint.
        pushed: How far the ladder that ends it has gone.
        ended: Whether its outcome has been taken; what comes later is dropped.
        alone: Whether no other run went before it in its task.
        clocked: Whether it has a time limit or a stall limit.
        rows: Rows that its committed chunks have written.
    """

    _meter: ProgressMeter | None = None
    progress_dirty = False
    stop: StopReason | None = None
    stop_since_s: float | None = None
    advanced = False
    pushed = 0
    ended = False
    rows = 0
    alone = True

    def __init__(self, job: ClaimedJob, spec: TaskSpec, *, claim_sent_s: float) -> None:
        self.job = job
        self.lease = job.lease
        self.spec = spec
        self.started_s = self.touched_s = time.monotonic()
        self.renewed_s = claim_sent_s
        self.clocked = spec.clocked or job.timeout_s is not None or job.stall_timeout_s is not None

    @property
    def meter(self) -> ProgressMeter:
        """Its progress, measured from its start."""
        if self._meter is None:
            self._meter = ProgressMeter(self.started_s, Progress.from_json(self.job.progress))
        return self._meter

    @property
    def timeout_s(self) -> float | None:
        """Longest run time, from the trigger or else from the task."""
        return self.job.timeout_s if self.job.timeout_s is not None else self.spec.options.timeout_s

    @property
    def stall_timeout_s(self) -> float | None:
        """Longest time between safe points, from the trigger or else from the task."""
        own = self.job.stall_timeout_s
        return own if own is not None else self.spec.options.stall_timeout_s

    def request_stop(self, reason: StopReason) -> None:
        """Ask the run to end at its next safe point."""
        if self.stop is None or reason > self.stop:
            self.stop = reason
        if self.stop_since_s is None:
            self.stop_since_s = time.monotonic()

    def report(self, update: Mapping[str, object]) -> None:
        """Take progress that will be written with the next heartbeat."""
        self.meter.update(update)
        self.progress_dirty = True

    def progress(self) -> dict[str, object] | None:
        """Return progress as it is to be written, None when nothing was ever reported."""
        if (self._meter is None and not self.job.progress) or self.meter.current == Progress():
            return None
        return self.meter.as_json(time.monotonic())


class RunTable:
    """The runs of this process; changed on the control loop, copied by other threads."""

    def __init__(self) -> None:
        self._runs: dict[Run, None] = {}

    def add(self, run: Run) -> None:
        """Enter a run before its pipeline starts."""
        self._runs[run] = None

    def remove(self, run: Run) -> None:
        """Take a run out once its end is written, or there is nothing to write."""
        self._runs.pop(run, None)

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.copy())

    def held(self) -> list[Lease]:
        """Return every lease this process knows of."""
        return [run.lease for run in self._runs.copy()]
