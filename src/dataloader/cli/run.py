"""`dataloader run`: an ordinary job, recorded like any other, run in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from rich.console import Console
from typer import Argument, Exit, Option, Typer

from dataloader.cli.arguments import job_args, labels
from dataloader.cli.ending import ExitCode
from dataloader.cli.options import AsJson, Embedded, command
from dataloader.cli.screen import Screen, out, print_model
from dataloader.cli.signals import SIGNALS
from dataloader.cli.watch import exit_code, outcome, watch_job
from dataloader.client import DataloaderClient, JobStatusView
from dataloader.config import QueueWorkers, load_settings
from dataloader.domain.jobs import JobStatus, NewJob, new_job_id
from dataloader.exceptions import InvalidError

if TYPE_CHECKING:
    from dataloader.cli.private import PrivateService
    from dataloader.workers.pipelines.registry import Registry

_EXAMPLES = (
    "dataloader run load.file source=prices.csv table=prices",
    "dataloader run load.file --set source=https://example.com/t.csv.gz --set table=t --set mode=replace",
    "dataloader run --resume 01a20c71-79d2-7d3b-bfa3-e301628db985",
)

Task = Annotated[str | None, Argument(help="Task to run.", show_default=False)]
Pairs = Annotated[
    list[str] | None,
    Argument(
        metavar="KEY=VALUE", help="Arguments of the task; a value that is JSON is taken as such.", show_default=False
    ),
]
Sets = Annotated[
    list[str] | None, Option("--set", metavar="KEY=VALUE", help="The same; may be repeated.", show_default=False)
]
Args = Annotated[str | None, Option("--args", help="Arguments as a JSON object.", show_default=False)]
Resume = Annotated[
    UUID | None, Option("--resume", help="Go on with a job that `run` began, from its checkpoint.", show_default=False)
]
MaxAttempts = Annotated[int, Option("--max-attempts", min=1, max=100, help="Attempts before it fails.")]
Labels = Annotated[list[str] | None, Option("--label", help="NAME=VALUE; may be repeated.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to run: a new job, or one that exists."""

    job_id: UUID
    job: NewJob | None


def register_run(app: Typer) -> None:
    """Enter the command."""
    command(app, "run", examples=_EXAMPLES)(run)


async def run(
    task: Task = None,
    pairs: Pairs = None,
    *,
    sets: Sets = None,
    args: Args = None,
    resume: Resume = None,
    max_attempts: MaxAttempts = 1,
    label: Labels = None,
    as_json: AsJson = False,
    embedded: Embedded = False,
) -> None:
    """Run one job here and now, without a running service; exit with 0 only if it succeeds.

    The job is kept in the configured database, or in the embedded one if none is configured. It may read and write any
    file and bucket that you may and ask any host, unless DL_SOURCE_ROOTS, DL_TARGET_ROOTS, DL_SOURCE_HOSTS,
    DL_SOURCE_BUCKETS or DL_TARGET_BUCKETS say otherwise.
    """
    wanted = _wanted(task, job_args([*(pairs or ()), *(sets or ())], args), resume, max_attempts, labels(label or ()))
    embedded = embedded or not load_settings().has_database
    state = await _run(wanted, embedded=embedded, console=Screen(stderr=True) if as_json else out())
    if as_json:
        print_model(state)
    else:
        out().print(outcome(state))
    raise Exit(exit_code(state))


def _wanted(
    task: str | None, arguments: dict[str, object], resume: UUID | None, max_attempts: int, tags: dict[str, str]
) -> Wanted:
    """Read what is asked for.

    Raises:
        InvalidError: Neither a task nor a job is named, or both are.
    """
    if (task is None) == (resume is None):
        raise InvalidError("name a task to run, or a job with --resume; `dataloader run --help` shows examples")
    if resume is not None:
        return Wanted(resume, None)
    job_id = new_job_id()
    job = NewJob(_queue_of(job_id), str(task), arguments, max_attempts=max_attempts, labels=tags, job_id=job_id)
    return Wanted(job_id, job)


def _queue_of(job_id: UUID) -> str:
    """Return the queue of one job that its own process runs: no other worker takes it."""
    return f"run-{job_id.hex[-12:]}"


async def _run(wanted: Wanted, *, embedded: bool, console: Console) -> JobStatusView:
    from dataloader.cli.private import private_service, private_settings  # noqa: PLC0415 - help must not wait for it
    from dataloader.workers.pipelines.registry import load_all  # noqa: PLC0415 - the same

    known = load_settings()
    registry = load_all(known.dl_pipelines)
    _check(wanted, registry)
    queue = QueueWorkers(queue=_queue_of(wanted.job_id), concurrency=1, tasks=tuple(spec.name for spec in registry))
    settings = private_settings(
        embedded=embedded,
        workers_json=(queue,),
        dl_source_roots=known.dl_source_roots or (Path("/"),),
        dl_source_hosts=known.dl_source_hosts or ("*",),
        dl_target_roots=known.dl_target_roots or (Path("/"),),
        dl_target_buckets=known.dl_target_buckets or ("*",),
        dl_source_buckets=known.dl_source_buckets or ("*",),
    )
    with _terminating():
        async with (
            private_service(settings, registry, embedded=embedded, working=True, migrating=embedded) as service,
            DataloaderClient(service.url) as client,
        ):
            await _begin(wanted, service, client)
            farewell = f"Stopped; `dataloader run --resume {wanted.job_id}` goes on from its checkpoint."
            return await watch_job(client, wanted.job_id, console=console, farewell=farewell)


def _check(wanted: Wanted, registry: Registry) -> None:
    """Refuse what cannot run before anything is started.

    Raises:
        InvalidError: The task is not known, or its arguments do not fit.
    """
    if wanted.job is not None:
        registry.get(wanted.job.task).parse_args(wanted.job.args)


async def _begin(wanted: Wanted, service: PrivateService, client: DataloaderClient) -> None:
    """Queue the job; one that exists is queued again if it has ended without success.

    Raises:
        InvalidError: The job is not one that `run` began.
        NotFoundError: There is no such job.
    """
    if wanted.job is not None:
        async with service.ctx.engine.begin() as connection:
            await service.ctx.intake.enqueue(connection, [wanted.job], actor="cli:run", notify=True)
        return
    state = await client.status(wanted.job_id)
    if state.queue != _queue_of(wanted.job_id):
        raise InvalidError(f"{wanted.job_id} was not begun by `run`; use `dataloader jobs retry {wanted.job_id}`")
    if state.status.is_finished and state.status is not JobStatus.SUCCEEDED:
        await client.retry(wanted.job_id)


@contextmanager
def _terminating() -> Iterator[None]:
    """Take SIGTERM and Ctrl-C alike: the job is handed over, and can go on later.

    Raises:
        Exit: One of them came.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    came = asyncio.Event()
    assert task is not None  # noqa: S101 - commands run in a task

    def stop() -> None:
        came.set()
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    except asyncio.CancelledError:
        if not came.is_set():
            raise
        raise Exit(ExitCode.INTERRUPTED) from None
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
