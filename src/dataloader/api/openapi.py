"""The API's description of itself."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from dataloader.api.problems import Problem

DESCRIPTION = """\
Trigger long ETL jobs, follow them, stop and repeat them. Every job is a row in PostgreSQL before the answer is sent.

Errors are problem details (RFC 9457) with a stable `code`. While the database is away the answer is 503 with
`Retry-After`; repeat the request, with an `idempotency_key` for triggers, so that nothing is queued twice."""

TAGS: list[dict[str, Any]] = [
    {"name": "jobs", "description": "Trigger, follow, cancel and retry jobs."},
    {"name": "tasks", "description": "What can be triggered."},
    {"name": "queues", "description": "What waits where; pause and resume."},
    {"name": "workers", "description": "The processes that run jobs."},
    {"name": "operation", "description": "Liveness, readiness and metrics of the process."},
]


class DescribedApp(FastAPI):
    """An application whose operations all refer to one schema of problems instead of FastAPI's own."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; it is built once."""
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= problem.pop("$defs")
            schemas["Problem"] = problem
            for unused in ("HTTPValidationError", "ValidationError"):
                schemas.pop(unused, None)
        return super().openapi()
