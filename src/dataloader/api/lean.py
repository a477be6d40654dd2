"""The short way of a request: FastAPI describes such a route and finds it, and does not take part in answering."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, cast

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from dataloader.api.bodies import read_json

Model = TypeVar("Model", bound=BaseModel)

_NO_OBJECT = {"type": "dict_type", "loc": ("body",), "msg": "Input should be an object", "input": None}
_MISSING = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}


class LeanRoute(APIRoute):
    """A route whose endpoint takes the model of its body and the request, and returns the response.

    Solving dependencies, and writing the response for the endpoint, takes FastAPI longer than all the rest of a trigger
    in this process.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler of requests."""
        endpoint, field = self.endpoint, self.body_field
        if field is None:
            raise TypeError(f"{self.path} takes no body; use another class of routes")
        model = cast("type[BaseModel]", field.field_info.annotation)

        async def handle(request: Request) -> Response:
            response: Response = await endpoint(await _read_model(request, model), request)
            return response

        return handle


def answer_of(model: BaseModel, *, status: int, location: str | None = None) -> Response:
    """Return a model as a response, with the address of what was made."""
    headers = None if location is None else {"location": location}
    return Response(model.model_dump_json(), status_code=status, headers=headers, media_type="application/json")


async def _read_model(request: Request, model: type[Model]) -> Model:
    body, value = await read_json(request)
    if not body:
        raise RequestValidationError([_MISSING])
    if not isinstance(value, dict):
        raise RequestValidationError([_NO_OBJECT])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in mistakes]) from None
