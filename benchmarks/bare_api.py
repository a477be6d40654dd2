"""The API with one endpoint more: the same body, checks and answer as a trigger, and no database."""

from __future__ import annotations

import sys
from http import HTTPStatus
from uuid import uuid4

import uvicorn
from fastapi import APIRouter, FastAPI

from dataloader.api.app import create_app
from dataloader.api.bodies import StrictRoute
from dataloader.api.v1.schemas import Triggered, TriggerRequest
from dataloader.domain.jobs import JobStatus

PATH = "/bare"
router = APIRouter(route_class=StrictRoute)


@router.post(PATH, status_code=HTTPStatus.CREATED)
async def bare(request: TriggerRequest) -> Triggered:
    """Answer as if the job had been queued."""
    return Triggered(job_id=uuid4(), status=JobStatus.QUEUED)


def create_bare_app() -> FastAPI:
    """Build the application with the endpoint."""
    app = create_app()
    app.include_router(router)
    return app


if __name__ == "__main__":
    uvicorn.run(
        f"{__name__ if __name__ != '__main__' else 'benchmarks.bare_api'}:create_bare_app",
        factory=True,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
