"""`dataloader trigger`: queues a job, and follows it if asked to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from typer import Argument, Exit, Option, Typer

from dataloader.cli.arguments import due_at, job_args, labels
from dataloader.cli.options import CLIENT_PANEL, AsJson, Embedded, Url, command
from dataloader.cli.screen import Screen, out, print_model
from dataloader.cli.service import service
from dataloader.cli.watch import exit_code, outcome, watch_job
from dataloader.client import BulkItem, DataloaderClient, JobStatusView

_EXAMPLES = (
    "dataloader trigger noop chunks=20 sleep_s=0.5 --watch",
    "dataloader trigger cbr.daily_rates start=2025-04-01 end=2025-04-30 --key cbr-2025-04",
    """dataloader trigger noop --args '{"chunks": 3}' --at +15m --label team=treasury""",
)

Task = Annotated[str, Argument(help="Task to run; `dataloader tasks` lists them.", show_default=False)]
Pairs = Annotated[
    list[str] | None,
    Argument(
        metavar="KEY=VALUE",
        help="Arguments of the task. A value that is JSON is taken as such (n=3, flag=true, id='\"7\"'), "
        "any other as text.",
        show_default=False,
    ),
]
Queue = Annotated[str | None, Option("--queue", help="Queue; the task's own unless given.", show_default=False)]
Args = Annotated[str | None, Option("--args", help="Arguments as a JSON object.", show_default=False)]
Key = Annotated[
    str | None,
    Option("--key", help="Idempotency key: the same key answers the same job.", show_default=False),
]
LockKey = Annotated[
    str | None, Option("--lock-key", help="At most one job per key runs at a time.", show_default=False)
]
PartitionKey = Annotated[
    str | None, Option("--partition-key", help="Jobs of one partition run in order.", show_default=False)
]
Priority = Annotated[int | None, Option("--priority", help="Lower runs first; 100 unless given.", show_default=False)]
MaxAttempts = Annotated[
    int | None, Option("--max-attempts", help="Attempts before it fails; the task's unless given.", show_default=False)
]
TimeoutS = Annotated[
    float | None, Option("--timeout", metavar="SECONDS", help="Longest run of one attempt.", show_default=False)
]
At = Annotated[
    str | None, Option("--at", help="Not before: 2026-01-31T08:00 (local), with offset, or +15m.", show_default=False)
]
Labels = Annotated[list[str] | None, Option("--label", help="NAME=VALUE; may be repeated.", show_default=False)]
Wait = Annotated[bool, Option("--wait", help="Wait silently for the end; exit with 0 only if it succeeds.")]
Watch = Annotated[bool, Option("--watch", help="The same, with progress on the screen.")]


@dataclass(frozen=True, slots=True)
class After:
    """What follows the trigger."""

    wait: bool
    watch: bool
    as_json: bool


def register_trigger(app: Typer) -> None:
    """Enter the command."""
    command(app, "trigger", examples=_EXAMPLES, panel=CLIENT_PANEL)(trigger)


async def trigger(
    task: Task,
    pairs: Pairs = None,
    *,
    queue: Queue = None,
    args: Args = None,
    key: Key = None,
    lock_key: LockKey = None,
    partition_key: PartitionKey = None,
    priority: Priority = None,
    max_attempts: MaxAttempts = None,
    timeout_s: TimeoutS = None,
    at: At = None,
    label: Labels = None,
    wait: Wait = False,
    watch: Watch = False,
    as_json: AsJson = False,
    url: Url = None,
    embedded: Embedded = False,
) -> None:
    """Queue a job, and print its id."""
    arguments, due, tags = job_args(pairs or (), args), due_at(at), labels(label or ())
    async with service(url, embedded=embedded) as client:
        job = await client.trigger(
            task,
            arguments,
            queue=queue,
            idempotency_key=key,
            lock_key=lock_key,
            partition_key=partition_key,
            priority=priority,
            max_attempts=max_attempts,
            timeout_s=timeout_s,
            available_at=due,
            labels=tags,
        )
        await _follow(client, job, After(wait=wait, watch=watch, as_json=as_json))


async def _follow(client: DataloaderClient, job: BulkItem, after: After) -> None:
    if not (after.wait or after.watch):
        _print_job(job, after)
        return
    if not after.as_json:
        _print_job(job, after)
    console = Screen(stderr=True) if after.as_json else out()
    state = await (watch_job(client, job.job_id, console=console) if after.watch else client.wait(job.job_id))
    _print_end(state, after)
    raise Exit(exit_code(state))


def _print_job(job: BulkItem, after: After) -> None:
    if after.as_json:
        print_model(job)
    else:
        out().print(f"{job.job_id}  {job.status}{'' if job.created else '  (this key had been used before)'}")


def _print_end(state: JobStatusView, after: After) -> None:
    if after.as_json:
        print_model(state)
    else:
        out().print(outcome(state))
