"""Which tasks may be triggered, on which queue and with which arguments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError, best_match
from jsonschema.protocols import Validator
from pydantic import JsonValue
from referencing import Registry as SchemaRegistry
from referencing.exceptions import Unresolvable

from dataloader.api.database import Database
from dataloader.domain.jobs import NewJob
from dataloader.exceptions import InvalidArgsError, UnknownTaskError, WrongQueueError
from dataloader.logger import Logger
from dataloader.storage.repositories.catalogue import CatalogueRepository, TaskEntry
from dataloader.workers.pipelines.registry import Registry
from dataloader.workers.pipelines.spec import TaskSpec

FRESH_S = 5.0
"""How long the catalogue is believed."""

RETRY_S = 1.0
"""How long "unknown" is believed: the first worker of a new task may just have started."""

ERRORS_LIMIT = 20
KNOWN_LIMIT = 200


class Known(Protocol):
    """A task as the trigger sees it."""

    @property
    def queue(self) -> str | None:
        """The only queue its jobs may run on, None for any."""
        ...

    def check(self, args: Mapping[str, object]) -> None:
        """Raise InvalidArgsError if the arguments do not fit."""
        ...


@dataclass(frozen=True, slots=True)
class _Own:
    """A task of this process's registry: its model says what is wrong best, its schema is what others are told."""

    spec: TaskSpec
    schema: _Schema
    logger: Logger

    @property
    def queue(self) -> str | None:
        return self.spec.queue

    def check(self, args: Mapping[str, object]) -> None:
        try:
            self.spec.parse_args(args)
        except InvalidArgsError:
            raise
        except Exception as error:
            self.logger.warning("the model of a task's arguments broke", task=self.spec.name, exc_info=True)
            reason = f"the task's own check failed with {type(error).__name__}"
            raise _misfit(self.spec.name, [{"field": "args", "reason": reason}]) from error
        self.schema.check(args)


@dataclass(frozen=True, slots=True)
class _Published:
    """A task that workers elsewhere know."""

    entry: TaskEntry
    schema: _Schema

    @property
    def queue(self) -> str | None:
        return self.entry.queue

    def check(self, args: Mapping[str, object]) -> None:
        self.schema.check(args)


@dataclass(frozen=True, slots=True)
class _Schema:
    """The JSON Schema of a task's arguments; without a validator everything fits."""

    task: str
    validator: Validator | None
    logger: Logger

    @classmethod
    def of(cls, task: str, schema: Mapping[str, object] | None, logger: Logger) -> _Schema:
        return cls(task, None if schema is None else _validator(task, dict(schema), logger), logger)

    def check(self, args: Mapping[str, object]) -> None:
        """Raise InvalidArgsError if the arguments do not fit."""
        if self.validator is None:
            return
        try:
            errors = [
                _reason(error)
                for error, _ in zip(
                    self.validator.iter_errors(cast("Mapping[str, JsonValue]", args)), range(ERRORS_LIMIT), strict=False
                )
            ]
        except Unresolvable:
            self.logger.warning("a task's published schema refers elsewhere, not checked", task=self.task)
            return
        if errors:
            raise _misfit(self.task, errors)


class KnownTasks:
    """This process's registry first, then what workers have published.

    Args:
        registry: Tasks of this process.
        database: Where the catalogue is.
        catalogue: How it is read.
        logger: Says when a schema or a model is broken.
    """

    def __init__(
        self, registry: Registry, *, database: Database, catalogue: CatalogueRepository, logger: Logger
    ) -> None:
        self._own: dict[str, Known] = {
            spec.name: _Own(spec, _Schema.of(spec.name, spec.args_schema(), logger), logger) for spec in registry
        }
        self._database = database
        self._catalogue = catalogue
        self._logger = logger
        self._published: dict[str, Known] = {}
        self._read_at_s = -FRESH_S
        self._reading = asyncio.Lock()

    async def check(self, job: NewJob) -> None:
        """Make sure that a job can be run by somebody.

        Raises:
            UnknownTaskError: No process knows the task.
            WrongQueueError: The task runs on another queue.
            InvalidArgsError: The arguments do not fit.
        """
        known = await self._find(job.task)
        if known.queue not in {None, job.queue}:
            reason = f"task {job.task} runs on queue {known.queue} only"
            raise WrongQueueError(
                f"Wrong queue: {reason}", queue=known.queue, errors=[{"field": "queue", "reason": reason}]
            )
        known.check(job.args)

    async def _find(self, task: str) -> Known:
        known = self._own.get(task)
        if known is None:
            await self._refresh(FRESH_S if task in self._published else RETRY_S)
            known = self._published.get(task)
        if known is None:
            names = sorted({*self._own, *self._published})[:KNOWN_LIMIT]
            reason = "no process knows this task" + ("" if names else ": no worker has ever started here")
            raise UnknownTaskError(f"Unknown task {task!r}", known=names, errors=[{"field": "task", "reason": reason}])
        return known

    async def _refresh(self, age_s: float) -> None:
        async with self._reading:
            if time.monotonic() - self._read_at_s < age_s:
                return
            async with self._database.reading() as connection:
                entries = await self._catalogue.tasks(connection)
            self._published = self._compiled(entries)
            self._read_at_s = time.monotonic()

    def _compiled(self, entries: Iterable[TaskEntry]) -> dict[str, Known]:
        return {
            entry.task: _Published(entry, _Schema.of(entry.task, entry.args_schema, self._logger)) for entry in entries
        }


def _validator(task: str, schema: dict[str, object], logger: Logger) -> Validator | None:
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        logger.warning("a task's published schema is broken, not checked", task=task, reason=error.message)
        return None
    # An empty registry: a schema must not make this process fetch documents.
    return Draft202012Validator(schema, registry=SchemaRegistry(), format_checker=Draft202012Validator.FORMAT_CHECKER)


def _misfit(task: str, errors: list[dict[str, str]]) -> InvalidArgsError:
    return InvalidArgsError(f"The arguments do not fit {task}", errors=errors)


def _reason(error: ValidationError) -> dict[str, str]:
    innermost = best_match([error]) or error
    field = ".".join(("args", *(str(part) for part in innermost.absolute_path)))
    return {"field": field[:200], "reason": innermost.message[:300]}
