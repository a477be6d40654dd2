"""Problem details: the one shape of every error answer (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from dataloader.domain.json_values import clean_value

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: Annotated[str, Field(description="Path of the field; empty for the whole body.", examples=["args.date"])]
    reason: Annotated[str, Field(description="What is wrong with it.", examples=["Field required"])]
    index: Annotated[int | None, Field(description="Item of a bulk request, from 0.")] = None


class Problem(BaseModel):
    """Why a request was refused or could not be answered; further members name what it is about."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(description="URN of the code.", examples=["urn:dataloader:error:job_not_found"])]
    title: Annotated[str, Field(description="The code for people.", examples=["Job not found"])]
    status: Annotated[int, Field(description="HTTP status.", examples=[404])]
    detail: Annotated[str, Field(description="What happened this time.")]
    instance: Annotated[str, Field(description="Path of the request.")]
    code: Annotated[str, Field(description="Stable identifier for programs.", examples=["job_not_found"])]
    request_id: Annotated[str | None, Field(description="Find the request in the logs by it.")] = None
    errors: Annotated[list[FieldError], Field(description="What is wrong with which field.")] = []
    job_id: Annotated[str | None, Field(description="The job this is about.")] = None
    job_status: Annotated[str | None, Field(description="Status of that job.")] = None
    known: Annotated[list[str] | None, Field(description="Names that would have been known.")] = None


def problem(
    *,
    status: int,
    code: str,
    detail: str,
    instance: str,
    request_id: str | None = None,
    errors: Sequence[Mapping[str, object]] = (),
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, object] | None = None,
) -> Response:
    """Return an error answer.

    Args:
        status: HTTP status.
        code: Stable identifier.
        detail: What happened, safe to show.
        instance: Path of the request.
        request_id: Id of the request.
        errors: Field and reason of each mistake.
        headers: Further headers.
        more: Further members, safe to show.
    """
    body = {
        **(more or {}),
        "type": f"urn:dataloader:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": instance,
        "code": code,
        "request_id": request_id,
        "errors": list(errors),
    }
    # ASCII, because a path or a key of the request may hold what UTF-8 cannot.
    content = json.dumps(clean_value(body), ensure_ascii=True, allow_nan=False).encode()
    return Response(content, status, headers=dict(headers or {}) | {"cache-control": "no-store"}, media_type=MEDIA_TYPE)


BODY_ERRORS = (400, 408, 413, 415, 422)
"""Statuses of a body that is not taken."""


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """Return the `responses` of an operation that may answer with these problems."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, object]:
    phrase, code, detail = _EXAMPLES[status]
    example = {
        "type": f"urn:dataloader:error:{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": "/api/v1/jobs",
        "code": code,
        "request_id": "5f0c2b7e9d4a4c1e",
        "errors": [],
    }
    schema = {"$ref": "#/components/schemas/Problem"}
    answer: dict[str, object] = {
        "description": phrase,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        answer["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return answer


_EXAMPLES: Mapping[int, tuple[str, str, str]] = {
    400: ("The body is not JSON in UTF-8.", "bad_json", "The body is not JSON: Expecting value at position 0"),
    404: ("There is no such thing.", "job_not_found", "There is no job 019a2f6e-5c1b-7d3e-9f00-1a2b3c4d5e6f"),
    409: (
        "The present state does not allow it; the job's id and status are given.",
        "job_state_conflict",
        "It is running; only failed, canceled and lost jobs can be retried",
    ),
    408: ("The body did not arrive in time.", "body_timeout", "The body did not arrive within 30 s"),
    413: (
        "The body is larger than 8 MiB.",
        "body_too_large",
        "The body is larger than 2097152 bytes",
    ),
    415: ("The body is of another type than JSON.", "unsupported_media_type", "Send application/json in UTF-8"),
    422: ("A value is missing, unknown or wrong.", "invalid", "queue: Field required"),
    500: ("A fault of the service; the log has more under the request's id.", "internal", "Something went wrong here"),
    503: ("The database is away; try again.", "database_unavailable", "PostgreSQL cannot be reached: OSError"),
}
