"""Endpoints for tasks, queues and workers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from dataloader.api.problems import documented
from dataloader.api.services import PREFIX, Actor, Fleet
from dataloader.api.v1.fields import Name
from dataloader.api.v1.fleet_schemas import QueueList, QueueView, TaskList, TaskView, WorkerList

router = APIRouter(prefix=PREFIX)

QueueName = Annotated[Name, Path(description="Name of the queue.")]
TaskName = Annotated[Name, Path(description="Name of the task.")]


@router.get("/tasks", tags=["tasks"], summary="List tasks", responses=documented(500, 503))
async def list_tasks(fleet: Fleet) -> TaskList:
    """Every task that may be triggered, with the JSON Schema of its arguments."""
    return TaskList(tasks=await fleet.tasks())


@router.get("/tasks/{task}", tags=["tasks"], summary="Get a task", responses=documented(404, 422, 500, 503))
async def get_task(task: TaskName, fleet: Fleet) -> TaskView:
    """One task, with the JSON Schema of its arguments."""
    return await fleet.task(task)


@router.get("/queues", tags=["queues"], summary="List queues", responses=documented(500, 503))
async def list_queues(fleet: Fleet) -> QueueList:
    """Every queue: what it holds, who serves it, whether it is paused."""
    return QueueList(queues=await fleet.queues())


@router.post(
    "/queues/{queue}/pause", tags=["queues"], summary="Pause a queue", responses=documented(404, 422, 500, 503)
)
async def pause_queue(queue: QueueName, fleet: Fleet, actor: Actor) -> QueueView:
    """Take no more jobs from a queue; running ones go on, new ones may still be triggered."""
    return await fleet.pause(queue, actor=actor)


@router.post(
    "/queues/{queue}/resume", tags=["queues"], summary="Resume a queue", responses=documented(404, 422, 500, 503)
)
async def resume_queue(queue: QueueName, fleet: Fleet, actor: Actor) -> QueueView:
    """Take jobs from a paused queue again."""
    return await fleet.resume(queue, actor=actor)


@router.get("/workers", tags=["workers"], summary="List workers", responses=documented(500, 503))
async def list_workers(fleet: Fleet) -> WorkerList:
    """The processes that run jobs, live ones first."""
    return WorkerList(workers=await fleet.workers())
