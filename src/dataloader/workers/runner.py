"""One lease, one outcome: drives a pipeline from safe point to safe point."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Mapping
from contextlib import aclosing

from dataloader.domain.json_values import clean_text
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
from dataloader.workers.runs import Run, StopReason

OUTAGE_DELAY_S = 1.0
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

    async def execute(self, run: Run) -> Outcome:
        """Run the pipeline of a claimed job and say how it ended; never raises."""
        with bind_job(run.lease.job_id, run.job.task, run.lease.epoch):
            try:
                return await self._drive(run)
            except asyncio.CancelledError as error:
                return self._stopped(run, run.stop) if run.stop else self._failed(run, error)
            except BaseException as error:  # noqa: BLE001 - around a pipeline: whatever it raises is its outcome
                return self._raised(run, error)

    async def _drive(self, run: Run) -> Outcome:
        args = run.spec.parse_args(run.job.args)
        context = JobContext(run, self._resources, self._loggers.app)
        async with aclosing(run.spec.start(args, context)) as steps:
            if reason := run.why_stop():
                return self._stopped(run, reason)
            async for step in steps:
                run.reach_safe_point()
                await self._take(run, context, step)
                if reason := run.why_stop():
                    return self._stopped(run, reason)
        return Succeeded(context.result)

    async def _take(self, run: Run, context: JobContext, step: object) -> None:
        """Act on what the pipeline yielded."""
        if context.in_transaction:
            raise PermanentError("the pipeline yielded inside ctx.transaction(): a safe point lies between chunks")
        match step:
            case None:
                pass
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

    def _raised(self, run: Run, error: BaseException) -> Outcome:
        if run.stop is not None and run.stop not in {StopReason.HAND_OVER, StopReason.CANCEL}:
            return self._stopped(run, run.stop)
        match error:
            case LeaseLostError():
                return Abandoned(error.message)
            case RetryLater():
                return Postponed(self._loggers.masker.text(clean_text(error.message)), max(error.delay_s, 0.0))
            case PermanentError() | InvalidError():
                return Failed(self._described(error), delay_s=None)
        if _is_outage(error):
            return HandedOver("the database went away", OUTAGE_DELAY_S)
        return self._failed(run, error)

    def _failed(self, run: Run, error: BaseException) -> Failed:
        options = run.spec.options
        start_over = options.start_over_on_progress and run.advanced
        attempt = 1 if start_over else run.job.attempt
        delay_s = options.retry.delay_s(attempt, draw=random.random())  # noqa: S311 - jitter
        return Failed(self._described(error), delay_s=delay_s, start_over=start_over)

    def _described(self, error: BaseException) -> JobError:
        mask = self._loggers.masker.text
        message = str(error) or type(error).__name__
        if isinstance(error, InvalidArgsError):
            message = f"{message}: {error.details.get('errors')}"
        trace = None
        if not isinstance(error, DataloaderError):
            trace = clean_text(mask("".join(traceback.format_exception(error))[-_TRACEBACK_LIMIT:]))
        return JobError(type(error).__name__, mask(clean_text(message, 2_000)), trace)


def _is_outage(error: BaseException) -> bool:
    """Return whether the service's own database went away; a source may fail with the same errors of the driver."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(DatabaseAwayError)[1] is None
    return isinstance(error, DatabaseAwayError)
