"""Endpoints of version 1: a few lines each, the work is done by the services."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Body, Path, Query, Request

from dataloader.api.bodies import StrictRoute
from dataloader.api.disconnect import until_disconnected
from dataloader.api.problems import BODY_ERRORS, documented
from dataloader.api.services import PREFIX, Actor, Jobs
from dataloader.api.v1.fields import PAGE_LIMIT
from dataloader.api.v1.schemas import (
    WAIT_LIMIT_S,
    JobChunks,
    JobDetail,
    JobEvents,
    JobPage,
    JobQuery,
    JobStatusView,
    JobWhy,
    RetryRequest,
)

router = APIRouter(prefix=f"{PREFIX}/jobs", tags=["jobs"], route_class=StrictRoute)

JobId = Annotated[UUID, Path(description="Id of the job.")]


@router.get("", summary="List jobs", responses=documented(422, 500, 503))
async def list_jobs(query: Annotated[JobQuery, Query()], jobs: Jobs) -> JobPage:
    """Jobs that match all given filters, newest first, in pages."""
    return await jobs.page(query)


@router.get("/{job_id}", summary="Get a job", responses=documented(404, 422, 500, 503))
async def get_job(job_id: JobId, jobs: Jobs) -> JobDetail:
    """All that is known of a job."""
    return await jobs.detail(job_id)


@router.get("/{job_id}/status", summary="Get the status of a job", responses=documented(404, 422, 500, 503))
async def get_status(
    job_id: JobId,
    request: Request,
    jobs: Jobs,
    wait: Annotated[
        float, Query(ge=0, le=WAIT_LIMIT_S, allow_inf_nan=False, description="Seconds to wait for the job's end.")
    ] = 0.0,
) -> JobStatusView:
    """Where a job stands; with `wait` the answer comes when the job ends, the time is up or the service stops."""
    if wait <= 0:
        return await jobs.status(job_id)
    with until_disconnected(request) as gone:
        return await jobs.status(job_id, wait_s=wait, gone=gone)


@router.post("/{job_id}/cancel", summary="Cancel a job", responses=documented(404, 409, 422, 500, 503))
async def cancel_job(job_id: JobId, jobs: Jobs, actor: Actor) -> JobStatusView:
    """Cancel a queued job at once; ask a running one to stop at its next safe point."""
    return await jobs.cancel(job_id, actor=actor)


@router.post("/{job_id}/retry", summary="Retry a job", responses=documented(*BODY_ERRORS, 404, 409, 500, 503))
async def retry_job(
    job_id: JobId, jobs: Jobs, actor: Actor, request: Annotated[RetryRequest | None, Body()] = None
) -> JobStatusView:
    """Queue a failed, canceled or lost job again, from its checkpoint unless `from_start` is set."""
    return await jobs.retry(job_id, from_start=request is not None and request.from_start, actor=actor)


@router.get("/{job_id}/events", summary="Get the audit log of a job", responses=documented(404, 422, 500, 503))
async def get_events(
    job_id: JobId,
    jobs: Jobs,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Events after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Events per page.")] = 100,
) -> JobEvents:
    """What happened to a job, when, and by whom; oldest first."""
    return await jobs.events(job_id, after=after, limit=limit)


@router.get("/{job_id}/chunks", summary="Get the chunks of a job", responses=documented(404, 422, 500, 503))
async def get_chunks(
    job_id: JobId,
    jobs: Jobs,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="Chunks after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Chunks per page.")] = 100,
) -> JobChunks:
    """What each committed chunk of a job loaded, from where and how fast; oldest first."""
    return await jobs.chunks(job_id, after=after, limit=limit)


@router.get("/{job_id}/why", summary="Explain why a job waits", responses=documented(404, 422, 500, 503))
async def get_why(job_id: JobId, jobs: Jobs) -> JobWhy:
    """What a queued job waits for: its time, a lock, its partition, a paused queue, a worker, or a free slot."""
    return await jobs.why(job_id)
