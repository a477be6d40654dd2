"""One lease, one outcome: drives a pipeline from safe point to safe point."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections.abc import Mapping
from uuid import UUID

from dataloader.domain.json_values import Unreadable, clean_text, described
from dataloader.domain.outcomes import (
    Abandoned,
    Canceled,
    Failed,
    HandedOver,
    JobError,
    Outcome,
    Postponed,
    Succeeded,
)
from dataloader.domain.retry import DEFAULT_RETRY
from dataloader.exceptions import (
    DatabaseAwayError,
    DataloaderError,
    InvalidArgsError,
    InvalidError,
    LeaseLostError,
    PermanentError,
    RetryLater,
    RunTimeoutError,
    StallError,
)
from dataloader.logger import Loggers, bind_job
from dataloader.workers.chunks import Resources
from dataloader.workers.job_context import Checkpoint, JobContext
from dataloader.workers.plain import plain_steps
from dataloader.workers.runs import Run, StopReason

OUTAGE_DELAY_S = 1.0
OUTAGE_DELAY_MAX_S = 30.0
OUTAGES_MAX = 10
STRAY_CANCEL_DELAY_S = 0.5
POSTPONED_MIN_S = 0.5
"""Shortest wait of a run that asked to be run later: without one it would spin."""

_SUCCEEDED = Succeeded()
_REMEMBERED = 10_000
_TRACEBACK_LIMIT = 8_000


class Runner:
    """Runs pipelines on the event loop it is used in.

    Args:
        resources: Pool and HTTP session of that loop.
        loggers: For pipelines, and to mask what they raise.
    """

    def __init__(self, resources: Resources, loggers: Loggers) -> None:
        self._resources = resources
        self._loggers = loggers
        self._outages = Outages()

    async def execute(self, run: Run) -> Outcome:
        """Run the pipeline of a claimed job and say how it ended; never raises."""
        with bind_job(run.lease.job_id, run.job.task, run.lease.epoch):
            try:
                return await self._drive(run)
            except asyncio.CancelledError as error:
                return self.ended_by(run, error)
            except BaseException as error:  # noqa: BLE001 - around a pipeline: whatever it raises is its outcome
                return self.ended_by(run, error)

    async def _drive(self, run: Run) -> Outcome:
        if type(run.job.args) is Unreadable:
            raise _too_deep("args")
        if type(run.job.checkpoint) is Unreadable:
            raise _too_deep("checkpoint")
        args = run.spec.parse_args(run.job.args)
        context = JobContext(run, self._resources, self._loggers.app)
        steps = run.spec.start(args, context) if run.spec.is_async else plain_steps(run.spec, args, context)
        try:
            try:
                if run.stop:
                    return self._stopped(run, run.stop)
                async for step in steps:
                    run.touched_s = time.monotonic()
                    if step is not None or context.in_transaction:
                        await self._take(run, context, step)
                    if run.stop:
                        return self._stopped(run, run.stop)
            finally:
                await steps.aclose()
            if context.in_transaction:
                raise PermanentError("the pipeline ended inside ctx.transaction(): its last chunk was not committed")
            return _SUCCEEDED if context.result is None else Succeeded(context.result)
        finally:
            context.abandon()

    async def _take(self, run: Run, context: JobContext, step: object) -> None:
        """Act on what the pipeline yielded."""
        if context.in_transaction:
            raise PermanentError("the pipeline yielded inside ctx.transaction(): a safe point lies between chunks")
        match step:
            case Checkpoint():
                await context.save(step)
            case Mapping():
                run.report(step)
            case _:
                raise PermanentError(
                    f"the pipeline yielded {type(step).__name__}; yield nothing, a mapping or a Checkpoint"
                )

    def _stopped(self, run: Run, otherwise: StopReason) -> Outcome:
        match run.stop or otherwise:
            case StopReason.CANCEL:
                return Canceled()
            case StopReason.LEASE_LOST:
                return Abandoned("lease lost")
            case StopReason.TIMEOUT:
                return self._failed(run, RunTimeoutError(f"the attempt ran longer than {run.timeout_s:g} s"))
            case StopReason.STALL:
                return self._failed(run, StallError(f"no safe point for longer than {run.stall_timeout_s:g} s"))
            case StopReason.CUT_OFF:
                return HandedOver("the database was away", OUTAGE_DELAY_S)
            case _:
                return HandedOver("shutdown")

    def ended_by(self, run: Run, error: BaseException) -> Outcome:
        """Turn what ended a run into its outcome, also when the error's own texts or the task's policy raise."""
        try:
            return self._raised(run, error)
        except BaseException as second:  # noqa: BLE001 - code of the pipeline's author again
            name = type(error).__name__
            message = f"{name} was raised, and {type(second).__name__} while it was looked at"
            return Failed(JobError(name, clean_text(message)), delay_s=DEFAULT_RETRY.base_s)

    def _raised(self, run: Run, error: BaseException) -> Outcome:
        decisive = _decisive(error)
        if isinstance(decisive, LeaseLostError):
            return Abandoned(decisive.message)
        if run.stop is not None:
            self._loggers.app.info("error of a run that was told to stop", error=type(error).__name__)
            return self._stopped(run, run.stop)
        if isinstance(error, asyncio.CancelledError) and not run.alone:
            return HandedOver("its task was cancelled by a run that went before it", STRAY_CANCEL_DELAY_S)
        match decisive:
            case RetryLater():
                reason = self._loggers.masker.text(clean_text(decisive.message))
                return Postponed(reason, max(decisive.delay_s, POSTPONED_MIN_S))
            case PermanentError() | InvalidError():
                return Failed(self._described(decisive), delay_s=None)
        delay_s = self._outages.delay_s(run) if _is_outage(error) else None
        return self._failed(run, error) if delay_s is None else HandedOver("the database went away", delay_s)

    def _failed(self, run: Run, error: BaseException) -> Failed:
        options = run.spec.options
        start_over = options.start_over_on_progress
        attempt = 1 if start_over and run.advanced else run.job.attempt
        delay_s = options.retry.delay_s(attempt, draw=random.random())  # noqa: S311 - jitter
        return Failed(self._described(error), delay_s=delay_s, start_over=start_over)

    def _described(self, error: BaseException) -> JobError:
        mask = self._loggers.masker.text
        message = described(error) or type(error).__name__
        if isinstance(error, InvalidArgsError):
            message = f"{message}: {error.details.get('errors')}"
        trace = None
        if not isinstance(error, DataloaderError):
            trace = clean_text(mask("".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]))
        return JobError(type(error).__name__, mask(clean_text(message, 2_000)), trace)


class Outages:
    """Counts runs of a job that ended because the database went away, without progress between them.

    One after the other they are the statement's own doing (it breaks its connection, or the server): they are tried
    again later and later, and at last count as failures.
    """

    def __init__(self) -> None:
        self._counts: dict[UUID, int] = {}

    def delay_s(self, run: Run) -> float | None:
        """Return the delay before the next try, None when there were too many."""
        job_id = run.lease.job_id
        count = 1 if run.advanced else self._counts.pop(job_id, 0) + 1
        if count > OUTAGES_MAX:
            return None
        self._counts[job_id] = count
        if len(self._counts) > _REMEMBERED:
            del self._counts[next(iter(self._counts))]
        return float(min(OUTAGE_DELAY_S * 2 ** (count - 1), OUTAGE_DELAY_MAX_S))


def _too_deep(name: str) -> PermanentError:
    return PermanentError(f"the job's {name} cannot be read: nested too deep")


def _decisive(error: BaseException) -> BaseException:
    """Return the error that decides: in a group, one that asks for something in particular, else the group."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    for kind in (LeaseLostError, PermanentError, InvalidError):
        if (found := error.subgroup(kind)) is not None:
            return _first(found)
    return _first(error) if error.split(RetryLater)[1] is None else error


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_outage(error: BaseException) -> bool:
    """Return whether the service's own database went away; a source may fail with the same errors of the driver."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(DatabaseAwayError)[1] is None
    return isinstance(error, DatabaseAwayError)
