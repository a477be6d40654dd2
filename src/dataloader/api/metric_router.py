"""The endpoint that Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dataloader.api.problems import documented
from dataloader.api.services import All, Services
from dataloader.exceptions import DataloaderError
from dataloader.storage.repositories.catalogue import QueueEntry
from dataloader.telemetry.fleet import Fleet, QueueGauge
from dataloader.telemetry.metrics import Metrics

SCRAPE_BUDGET_S = 2.0

router = APIRouter(tags=["operation"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {
            "description": "Prometheus text format; without the database, this process's own metrics only.",
            "content": {"text/plain": {"schema": {"type": "string"}, "example": "dataloader_database_up 1.0\n"}},
        },
        **documented(500),
    },
)
async def metrics(services: All) -> Response:
    """What this process counts, and what the database holds at this moment."""
    content = services.ctx.metrics.render(await _fleet(services))
    return Response(content, headers={"content-type": Metrics.content_type})


async def _fleet(services: Services) -> Fleet | None:
    try:
        async with services.database.reading(SCRAPE_BUDGET_S) as connection:
            queues = await services.catalogue.queues(connection)
            workers = await services.catalogue.live_workers(connection)
    except DataloaderError:
        return None
    return Fleet(tuple(map(_gauge, queues)), workers=workers, expired_leases=sum(queue.expired for queue in queues))


def _gauge(entry: QueueEntry) -> QueueGauge:
    return QueueGauge(
        queue=entry.queue,
        jobs={"ready": entry.ready, "waiting": entry.waiting, "running": entry.running},
        oldest_due_s=entry.oldest_due_s,
        paused=entry.paused_at is not None,
        slots=entry.slots,
    )
