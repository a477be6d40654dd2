"""What is known of a pipeline: how it is called, what it takes, how it is treated."""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema

from dataloader.domain.jobs import OnPartitionFailure
from dataloader.domain.retry import DEFAULT_RETRY
from dataloader.exceptions import InvalidArgsError
from dataloader.interfaces import RetryPolicy

Pipeline = Callable[..., object]
"""An async generator function; with `executor="process"` also a plain function or generator function."""


class ExecutorKind(StrEnum):
    """Where the runs of a task run."""

    INLINE = "inline"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class TaskOptions:
    """How jobs of a task are treated where the trigger does not say otherwise.

    Attributes:
        retry: Wait between attempts.
        max_attempts: Attempts before the job fails; None means the service's default.
        max_losses: Expired leases in a row before the job is lost; None means the service's default.
        timeout_s: Longest run time of an attempt, None for no limit.
        stall_timeout_s: Longest time between two safe points, None for no limit.
        on_partition_failure: What a finally failed job does to its partition.
        start_over_on_progress: Attempts start over when the failed attempt had advanced the checkpoint.
        executor: On the worker's event loop, or in a child process.
    """

    retry: RetryPolicy = DEFAULT_RETRY
    max_attempts: int | None = None
    max_losses: int | None = None
    timeout_s: float | None = None
    stall_timeout_s: float | None = None
    on_partition_failure: OnPartitionFailure = OnPartitionFailure.SKIP
    start_over_on_progress: bool = False
    executor: ExecutorKind = ExecutorKind.INLINE

    def as_json(self) -> dict[str, object]:
        """Return what the catalogue keeps."""
        return {
            "max_attempts": self.max_attempts,
            "max_losses": self.max_losses,
            "timeout_s": self.timeout_s,
            "stall_timeout_s": self.stall_timeout_s,
            "start_over_on_progress": self.start_over_on_progress,
        }


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A registered task.

    Attributes:
        queue: The only queue its jobs may run on, None for any.
        doc: First line of the pipeline's docstring, shown to users.
        args_model: Model of its arguments, None when it takes a plain dict.
        takes_context: Whether it takes a `JobContext` as second parameter.
        clocked: Whether its runs have a time limit or a stall limit by default.
        in_process: Whether each of its runs gets a child process.
        is_async: Whether the pipeline is an async generator.
    """

    name: str
    pipeline: Pipeline
    queue: str | None
    doc: str
    args_model: type[BaseModel] | None
    takes_context: bool
    options: TaskOptions
    clocked: bool = field(init=False)
    in_process: bool = field(init=False)
    is_async: bool = field(init=False)

    def __post_init__(self) -> None:
        """Find out once what every run asks."""
        limits = (self.options.timeout_s, self.options.stall_timeout_s)
        object.__setattr__(self, "clocked", limits != (None, None))
        object.__setattr__(self, "in_process", self.options.executor is ExecutorKind.PROCESS)
        object.__setattr__(self, "is_async", inspect.isasyncgenfunction(self.pipeline))

    def parse_args(self, args: Mapping[str, object]) -> object:
        """Return the arguments as the pipeline takes them.

        Raises:
            InvalidArgsError: They do not fit; `details["errors"]` lists field and reason.
        """
        if self.args_model is None:
            return dict(args)
        try:
            return self.args_model.model_validate(args)
        except ValidationError as error:
            raise InvalidArgsError(f"The arguments do not fit {self.name}", errors=_reasons(error)) from None

    def args_schema(self) -> dict[str, object] | None:
        """Return the JSON Schema of the arguments, None when any object is taken."""
        return None if self.args_model is None else self.args_model.model_json_schema()

    def start(self, args: object, context: object) -> AsyncGenerator[object, None]:
        """Create the generator of one run; nothing of it has been executed yet."""
        return typing.cast(
            "AsyncGenerator[object, None]",
            self.pipeline(args, context) if self.takes_context else self.pipeline(args),
        )


def _reasons(error: ValidationError) -> list[dict[str, str]]:
    return [
        {"field": ".".join(("args", *(str(part) for part in item["loc"]))), "reason": item["msg"]}
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]


def describe(name: str, pipeline: Pipeline, *, queue: str | None, options: TaskOptions) -> TaskSpec:
    """Read a pipeline's signature and docstring.

    Raises:
        TypeError: It is not an async generator function of one or two parameters, or its model has no JSON Schema.
    """
    plain = inspect.isfunction(pipeline) and not inspect.iscoroutinefunction(pipeline)
    if not inspect.isasyncgenfunction(pipeline) and not (plain and options.executor is ExecutorKind.PROCESS):
        raise TypeError(f"{name}: a pipeline is an `async def` with at least one `yield`; {_kind(pipeline)}")
    parameters = [p for p in inspect.signature(pipeline).parameters.values() if p.kind is not p.VAR_KEYWORD]
    if not 1 <= len(parameters) <= 2:
        raise TypeError(f"{name}: a pipeline takes `args`, or `args` and a JobContext")
    hint = _hint(pipeline, parameters[0].annotation)
    model = hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None
    if model is not None:
        _check_describable(name, model)
    doc = (inspect.getdoc(pipeline) or "").partition("\n")[0]
    return TaskSpec(name, pipeline, queue, doc, model, len(parameters) == 2, options)


def _kind(pipeline: object) -> str:
    if inspect.iscoroutinefunction(pipeline):
        return "an `async def` without a `yield` is not"
    if inspect.isfunction(pipeline):
        return 'a plain function needs a process of its own: register it with executor="process"'
    return f"{type(pipeline).__name__} is not"


def _check_describable(name: str, model: type[BaseModel]) -> None:
    try:
        model.model_json_schema()
    except PydanticInvalidForJsonSchema as error:
        reason = error.message
        raise TypeError(f"{name}: the model {model.__name__} of its arguments has no JSON Schema: {reason}") from error


class _Lenient(dict[str, object]):
    """Names of a module for resolving annotations; names that exist for type checkers only resolve to `object`."""

    def __missing__(self, key: str) -> object:
        return getattr(typing, key, object)


def _hint(pipeline: Pipeline, annotation: object) -> object:
    """Resolve one annotation; None if it means something to type checkers only."""
    function = inspect.unwrap(pipeline)
    module = sys.modules.get(function.__module__)
    names = _Lenient(
        vars(__import__("builtins")) | (vars(module) if module else {}) | getattr(function, "__globals__", {})
    )
    holder = types.SimpleNamespace(__annotations__={"args": annotation})
    try:
        return typing.get_type_hints(holder, localns=names).get("args")
    except (AttributeError, NameError, TypeError, SyntaxError):
        return None
