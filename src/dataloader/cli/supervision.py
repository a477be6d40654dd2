"""Which components live in a process, in which order they end, and what is said when one dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from dataloader.base import Component, supervise
from dataloader.cli.ending import ComponentDiedError
from dataloader.cli.readiness import granted
from dataloader.exceptions import SettingsError
from dataloader.logger import Logger
from dataloader.storage.complaints import log_complaints


class Reported:
    """A component whose unexpected death is one line in the log."""

    def __init__(self, component: Component, logger: Logger) -> None:
        self._component = component
        self._logger = logger

    @property
    def name(self) -> str:
        """Name of the component."""
        return self._component.name

    async def run(self, stop: asyncio.Event) -> None:
        """Run the component; report its death, and let it take effect."""
        try:
            with granted():
                await self._component.run(stop)
        except SettingsError:
            raise
        except Exception:
            self._logger.exception("component died, ending the process", component=self.name)
            raise
        if not stop.is_set():
            self._logger.error("component ended by itself, ending the process", component=self.name)


class Front:
    """The components that do the work, as one: when all have ended, what they stand on may end as well."""

    name = "front"

    def __init__(self, components: Sequence[Component], stop: asyncio.Event) -> None:
        self._components = components
        self._stop = stop

    async def run(self, stop: asyncio.Event) -> None:
        """Run until the wish to end, then let go of the ground."""
        await supervise(self._components, self._stop)
        stop.set()


async def run_until_stopped(
    ground: Sequence[Component], front: Sequence[Component], *, stop: asyncio.Event, logger: Logger
) -> None:
    """Run everything until `stop` is set and all of it has ended.

    Args:
        ground: What the front needs until it has handed over its last job: listener, notifier, embedded server.
        front: API and workers; these see `stop`.
        stop: The wish to end.
        logger: Told who died.

    Raises:
        SettingsError: A component found that it cannot work with its settings.
        ComponentDiedError: A component died; the log says which.
    """
    log_complaints(asyncio.get_running_loop(), logger)
    parts = Front([Reported(component, logger) for component in front], stop)
    try:
        await supervise([*(Reported(component, logger) for component in ground), parts], asyncio.Event())
    except ExceptionGroup as group:
        for error in _leaves(group):
            if isinstance(error, SettingsError):
                raise error from None
        raise ComponentDiedError from group


def _leaves(group: ExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
