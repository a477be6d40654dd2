"""Endpoints that queue jobs: the busy ones, whose requests take the short way."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from dataloader.api.lean import LeanRoute, answer_of
from dataloader.api.problems import BODY_ERRORS, documented
from dataloader.api.services import PREFIX, actor_of, services_of
from dataloader.api.v1.schemas import BulkRequest, BulkTriggered, Triggered, TriggerRequest

router = APIRouter(
    prefix=f"{PREFIX}/jobs",
    tags=["jobs"],
    route_class=LeanRoute,
    generate_unique_id_function=lambda route: route.name,
)

_LOCATION = {"Location": {"description": "Path of the job.", "schema": {"type": "string"}}}


@router.post(
    "/trigger",
    summary="Trigger a job",
    status_code=HTTPStatus.CREATED,
    response_model=Triggered,
    responses={
        200: {"model": Triggered, "description": "The idempotency key had been used before.", "headers": _LOCATION},
        201: {"description": "The job is queued.", "headers": _LOCATION},
        **documented(*BODY_ERRORS, 409, 500, 503),
    },
)
async def trigger(body: TriggerRequest, request: Request) -> Response:
    """Queue a job. It is written before the answer is sent; a repeated `idempotency_key` answers the same job."""
    job = await services_of(request).jobs.trigger(body, actor=actor_of(request))
    return answer_of(
        Triggered(job_id=job.job_id, status=job.status),
        status=HTTPStatus.CREATED if job.created else HTTPStatus.OK,
        location=f"{PREFIX}/jobs/{job.job_id}",
    )


@router.post(
    "/trigger/bulk",
    summary="Trigger many jobs",
    status_code=HTTPStatus.CREATED,
    response_model=BulkTriggered,
    responses={
        200: {"model": BulkTriggered, "description": "Every idempotency key had been used before."},
        201: {"description": "The jobs are queued."},
        **documented(*BODY_ERRORS, 409, 500, 503),
    },
)
async def trigger_bulk(body: BulkRequest, request: Request) -> Response:
    """Queue up to 10,000 jobs in one transaction; one bad job refuses them all and is named."""
    answer = await services_of(request).jobs.trigger_bulk(body.jobs, actor=actor_of(request))
    created = any(item.created for item in answer.jobs)
    return answer_of(answer, status=HTTPStatus.CREATED if created else HTTPStatus.OK)
