"""Turns what went wrong into problem details; the only place where errors meet HTTP statuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from dataloader.api.bodies import BodyError
from dataloader.api.problems import RETRY_AFTER_S, problem
from dataloader.exceptions import (
    ConflictError,
    DataloaderError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    SchemaVersionError,
    SettingsError,
    UnavailableError,
)

ERRORS_LIMIT = 50
FIELD_LIMIT = 200
METHODS = "OPTIONS"

_STATUSES: Mapping[type[DataloaderError], HTTPStatus] = {
    NotFoundError: HTTPStatus.NOT_FOUND,
    ConflictError: HTTPStatus.CONFLICT,
    InvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    SchemaVersionError: HTTPStatus.SERVICE_UNAVAILABLE,
    SettingsError: HTTPStatus.SERVICE_UNAVAILABLE,
}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    # The rest of a body that was not waited for must not be taken for the next request.
    HTTPStatus.REQUEST_TIMEOUT: {"connection": "close"},
    HTTPStatus.SERVICE_UNAVAILABLE: {"retry-after": str(RETRY_AFTER_S)},
}
_CODES = {404: "no_such_path", 405: "method_not_allowed"}
_SILENT: Mapping[type[DataloaderError], str] = {
    SettingsError: "The database refuses this service; its log says why",
}


def install(app: FastAPI) -> None:
    """Make the application answer every error with problem details."""
    app.add_exception_handler(DataloaderError, _on_own)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def internal(request_id: str, path: str) -> Response:
    """Return the answer to an unforeseen error: nothing of its inside."""
    return problem(
        status=HTTPStatus.INTERNAL_SERVER_ERROR,
        code="internal",
        detail="Something went wrong here; the service's log has more under this request's id",
        instance=path,
        request_id=request_id,
    )


def headers_too_large(limit_bytes: int, request_id: str, path: str) -> Response:
    """Return the answer to a request whose headers are not worth reading."""
    return problem(
        status=HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        code="headers_too_large",
        detail=f"The headers are larger than {limit_bytes} bytes",
        instance=path[:FIELD_LIMIT],
        request_id=request_id,
        headers={"connection": "close"},
    )


def foreign(request_id: str, path: str) -> Response:
    """Return the answer to what a browser sends for a page of another site."""
    return problem(
        status=HTTPStatus.FORBIDDEN,
        code="foreign_page",
        detail="A page of another site may not change anything here",
        instance=path[:FIELD_LIMIT],
        request_id=request_id,
    )


def _status(error: DataloaderError) -> int:
    if isinstance(error, BodyError):
        return error.status
    for kind, status in _STATUSES.items():
        if isinstance(error, kind):
            return status
    return HTTPStatus.INTERNAL_SERVER_ERROR


async def _on_own(request: Request, error: Exception) -> Response:
    if not isinstance(error, DataloaderError):
        raise error
    status = _status(error)
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        raise error
    details = dict(error.details)
    errors = details.pop("errors", ())
    return problem(
        status=status,
        code=error.code,
        detail=_SILENT.get(type(error), error.message),
        instance=request.url.path,
        request_id=_request_id(request),
        errors=errors if isinstance(errors, Sequence) else (),
        headers=_HEADERS.get(status),
        more=details,
    )


async def _on_validation(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    errors = [_field_error(item["loc"], item["msg"]) for item in error.errors()[:ERRORS_LIMIT]]
    detail = "; ".join(f"{item['field'] or 'body'}: {item['reason']}" for item in errors[:3])
    return problem(
        status=HTTPStatus.UNPROCESSABLE_ENTITY,
        code="invalid",
        detail=detail,
        instance=request.url.path,
        request_id=_request_id(request),
        errors=errors,
    )


def _field_error(loc: tuple[int | str, ...], message: str) -> dict[str, object]:
    """Return field and reason of one mistake, and the item's number when it is in a bulk."""
    path = loc[1:]
    item: dict[str, object] = {
        "field": ".".join(str(part) for part in path)[:FIELD_LIMIT],
        "reason": message.removeprefix("Value error, "),
    }
    if len(path) > 1 and path[0] == "jobs" and isinstance(path[1], int):
        item["index"] = path[1]
    return item


async def _on_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED and request.method == METHODS:
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=error.headers)
    return problem(
        status=error.status_code,
        code=_CODES.get(error.status_code, "http_error"),
        detail=f"{request.method} {request.url.path}: {HTTPStatus(error.status_code).phrase}",
        instance=request.url.path,
        request_id=_request_id(request),
        headers=error.headers,
    )


def _request_id(request: Request) -> str | None:
    found = request.scope.get("request_id")
    return found if isinstance(found, str) else None
