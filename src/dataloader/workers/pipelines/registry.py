"""Where pipelines enter, by name; `register` is what users import."""

from __future__ import annotations

import importlib
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from dataloader.config import NAME_PATTERN
from dataloader.domain.jobs import OnPartitionFailure
from dataloader.domain.retry import DEFAULT_RETRY
from dataloader.exceptions import SettingsError, UnknownTaskError
from dataloader.interfaces import RetryPolicy
from dataloader.workers.pipelines.spec import ExecutorKind, Pipeline, TaskOptions, TaskSpec, describe

ENTRY_POINT_GROUP = "dataloader.pipelines"

P = TypeVar("P", bound=Pipeline)


class Registry:
    """The tasks a process knows."""

    def __init__(self) -> None:
        self._specs: dict[str, TaskSpec] = {}

    def add(self, spec: TaskSpec) -> None:
        """Enter a task.

        Raises:
            ValueError: The name is malformed, or taken by another pipeline.
        """
        for text in (spec.name, "any" if spec.queue is None else spec.queue):
            if not re.fullmatch(NAME_PATTERN, text):
                raise ValueError(f"{text!r} is not a name: lower-case letters, digits, '_', '.', '-', at most 63")
        known = self._specs.get(spec.name)
        if known is not None and _origin(known) != _origin(spec):
            raise ValueError(f"task {spec.name!r} is registered twice: {_origin(known)} and {_origin(spec)}")
        self._specs[spec.name] = spec

    def get(self, name: str) -> TaskSpec:
        """Return a task.

        Raises:
            UnknownTaskError: This process does not know it; `details["known"]` lists what it knows.
        """
        try:
            return self._specs[name]
        except KeyError:
            raise UnknownTaskError(f"Unknown task {name!r}", known=sorted(self._specs)) from None

    def __contains__(self, name: object) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[TaskSpec]:
        return iter(sorted(self._specs.values(), key=lambda spec: spec.name))

    def queues(self) -> list[str]:
        """Return every queue that a task names."""
        return sorted({spec.queue for spec in self._specs.values() if spec.queue is not None})

    def tasks_on(self, queue: str) -> list[str]:
        """Return the tasks whose jobs may run on a queue."""
        return [spec.name for spec in self if spec.queue in {None, queue}]


REGISTRY = Registry()


def register(
    name: str,
    *,
    queue: str | None = None,
    retry: RetryPolicy = DEFAULT_RETRY,
    max_attempts: int | None = None,
    max_losses: int | None = None,
    timeout_s: float | None = None,
    stall_timeout_s: float | None = None,
    on_partition_failure: OnPartitionFailure | str = OnPartitionFailure.SKIP,
    start_over_on_progress: bool = False,
    executor: ExecutorKind | str = ExecutorKind.INLINE,
    registry: Registry = REGISTRY,
) -> Callable[[P], P]:
    """Register an async generator as the pipeline of a task.

    Args:
        name: The task's name, `[a-z0-9_.-]{1,63}`.
        queue: The only queue its jobs may run on; None for any.
        retry: Wait between attempts, 30 s x attempt by default.
        max_attempts: Attempts before the job fails, 5 by default.
        max_losses: Expired leases in a row, without progress between them, before the job is lost, 3 by default.
        timeout_s: Longest run time of an attempt in seconds.
        stall_timeout_s: Longest time between two safe points in seconds.
        on_partition_failure: `skip` or `block`: what a finally failed job does to the jobs behind it.
        start_over_on_progress: Attempts start over when the failed attempt had advanced the checkpoint.
        executor: `inline`, or `process`: each run in a child process; the only place for plain functions.
        registry: Where to enter it.

    Raises:
        TypeError: The function is not an async generator of one or two parameters.
        ValueError: The name is malformed or taken.
    """
    options = TaskOptions(
        retry=retry,
        max_attempts=max_attempts,
        max_losses=max_losses,
        timeout_s=timeout_s,
        stall_timeout_s=stall_timeout_s,
        on_partition_failure=OnPartitionFailure(on_partition_failure),
        start_over_on_progress=start_over_on_progress,
        executor=ExecutorKind(executor),
    )

    def enter(pipeline: P) -> P:
        registry.add(describe(name, pipeline, queue=queue, options=options))
        return pipeline

    return enter


def load_all(modules: Iterable[str] = ()) -> Registry:
    """Import the built-in pipelines, those of installed packages, and the modules named in DL_PIPELINES.

    The modules may lie in the current directory; what is installed goes first, so that no file there hides a package.

    Raises:
        SettingsError: One of them cannot be imported; the message names it.
    """
    package = importlib.import_module("dataloader.workers.pipelines")
    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{info.name}")
    for point in entry_points(group=ENTRY_POINT_GROUP):
        _load(f"entry point {point.name}", point.load)
    for module in modules:
        _load(f"DL_PIPELINES: {module}", partial(import_here, module))
    return REGISTRY


def import_here(module: str) -> ModuleType:
    """Import a module that may lie in the current directory.

    Raises:
        ModuleNotFoundError: It does not exist; the message says where it was looked for.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        error.msg = f"{error.msg} in {here} or elsewhere on the Python path"
        raise


def _load(origin: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (Exception, SystemExit) as error:
        raise SettingsError(f"{origin} cannot be loaded: {type(error).__name__}: {error}") from error


def _origin(spec: TaskSpec) -> str:
    return f"{spec.pipeline.__module__}.{spec.pipeline.__qualname__}"
