"""`dataloader tasks`, `queues` and `workers`: what can run, where it waits, who runs it."""

from __future__ import annotations

from typing import Annotated

from rich.text import Text
from typer import Argument, Typer

from dataloader.cli.options import CLIENT_PANEL, AsJson, Embedded, Url, command
from dataloader.cli.screen import ago, out, print_model, print_models, span, table
from dataloader.cli.service import service
from dataloader.client import QueueView, TaskView

QueueName = Annotated[str, Argument(metavar="QUEUE", help="Name of the queue.", show_default=False)]


def register_fleet(app: Typer) -> None:
    """Enter the commands."""
    command(app, "tasks", examples=("dataloader tasks", "dataloader tasks --json"), panel=CLIENT_PANEL)(list_tasks)
    command(app, "workers", examples=("dataloader workers",), panel=CLIENT_PANEL)(list_workers)
    group = Typer(no_args_is_help=True, help="List, pause and resume queues.", rich_markup_mode="rich")
    app.add_typer(group, name="queues", rich_help_panel=CLIENT_PANEL)
    command(group, "list", examples=("dataloader queues list",))(list_queues)
    command(group, "pause", examples=("dataloader queues pause load.cbr",))(pause)
    command(group, "resume", examples=("dataloader queues resume load.cbr",))(resume)


async def list_tasks(*, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """List the tasks that can be triggered, with their arguments."""
    async with service(url, embedded=embedded) as client:
        tasks = await client.tasks()
    if as_json:
        print_models(tasks)
        return
    grid = table("Task", "Queue", "Arguments", "Does")
    for task in tasks:
        grid.add_row(task.task, task.queue or "any", Text(_arguments(task)), Text(task.doc))
    out().print(grid)


def _arguments(task: TaskView) -> str:
    """Return the names of a task's arguments; those that must be given carry a star."""
    schema = task.args_schema
    properties = (schema or {}).get("properties")
    required = (schema or {}).get("required")
    if schema is None or not isinstance(properties, dict):
        return "any"
    must = set(required) if isinstance(required, list) else set()
    return ", ".join(f"{name}{'*' if name in must else ''}" for name in properties) or "none"


async def list_queues(*, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """List queues: what waits and runs in them, and who serves them."""
    async with service(url, embedded=embedded) as client:
        queues = await client.queues()
    if as_json:
        print_models(queues)
        return
    grid = table("Queue", "State", "Ready", "Waiting", "Running", "Slots", "Workers", "Oldest due")
    for queue in queues:
        oldest = "-" if queue.oldest_due_s is None else span(queue.oldest_due_s)
        counts = map(str, (queue.ready, queue.waiting, queue.running, queue.slots, queue.workers))
        grid.add_row(queue.queue, _queue_state(queue), *counts, oldest)
    out().print(grid if queues else "No queues.")


def _queue_state(queue: QueueView) -> Text:
    if queue.paused:
        return Text(f"paused by {queue.paused_by}" if queue.paused_by else "paused", "yellow")
    return Text("open", "green") if queue.workers else Text("no worker", "red")


async def pause(queue: QueueName, *, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """Let no more jobs of a queue start; running ones go on."""
    async with service(url, embedded=embedded) as client:
        _print_queue(await client.pause(queue), as_json=as_json)


async def resume(queue: QueueName, *, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """Let jobs of a queue start again."""
    async with service(url, embedded=embedded) as client:
        _print_queue(await client.resume(queue), as_json=as_json)


def _print_queue(queue: QueueView, *, as_json: bool) -> None:
    if as_json:
        print_model(queue)
    else:
        out().print(Text(f"{queue.queue}  ").append_text(_queue_state(queue)))


async def list_workers(*, as_json: AsJson = False, url: Url = None, embedded: Embedded = False) -> None:
    """List the processes that run jobs, live ones first."""
    async with service(url, embedded=embedded) as client:
        workers = await client.workers()
    if as_json:
        print_models(workers)
        return
    grid = table("Worker", "Host", "Pid", "Version", "State", "Queues", "Heartbeat")
    for worker in workers:
        state = Text("stopping", "yellow") if worker.stopping else Text("alive", "green")
        queues = ", ".join(f"{queue} x{slots}" for queue, slots in worker.queues.items())
        grid.add_row(
            str(worker.worker_id),
            worker.host,
            str(worker.pid),
            worker.version,
            state if worker.alive else Text("gone", "red"),
            queues,
            ago(worker.heartbeat_at),
        )
    out().print(grid if workers else "No workers.")
