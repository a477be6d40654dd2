"""The service's API with one endpoint more: the same body, checks and answer as a trigger, and no database."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from fastapi import APIRouter, FastAPI

from dataloader.api.app import create_app
from dataloader.api.bodies import StrictRoute
from dataloader.api.v1.schemas import Triggered, TriggerRequest
from dataloader.cli import process
from dataloader.cli.app import main
from dataloader.domain.jobs import JobStatus

PATH = "/bare"
router = APIRouter(route_class=StrictRoute)


@router.post(PATH, status_code=HTTPStatus.CREATED)
async def bare(request: TriggerRequest) -> Triggered:
    """Answer as if the job had been queued."""
    return Triggered(job_id=uuid4(), status=JobStatus.QUEUED)


def create_bare_app(*arguments: Any, **options: Any) -> FastAPI:
    """Build the application with the endpoint."""
    app = create_app(*arguments, **options)
    app.include_router(router)
    return app


if __name__ == "__main__":
    with patch.object(process, "create_app", create_bare_app):
        main()
