"""Finds the function of a source, if the operator allows its module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dataloader.config import Settings
from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
from dataloader.workers.pipelines.registry import import_here


def check_allowed(args: DltRunArgs, settings: Settings) -> None:
    """Refuse a module that the operator has not named.

    Raises:
        PermanentError: It is not allowed; nothing of it has been imported.
    """
    allowed = settings.dl_dlt_sources
    if not any(f"{args.module}.".startswith(f"{prefix}.") for prefix in allowed):
        known = ", ".join(allowed) or "none"
        raise PermanentError(
            f"the module {args.module!r} is not allowed; name it or a package above it in DL_DLT_SOURCES "
            f"of the worker (now: {known})"
        )


def find_function(args: DltRunArgs) -> Callable[..., Any]:
    """Import a source's function, from the current directory too.

    Raises:
        PermanentError: There is none.
    """
    try:
        module = import_here(args.module)
    except ModuleNotFoundError as error:
        raise PermanentError(f"the source {args.source!r} cannot be imported: {error}") from error
    function = getattr(module, args.function, None)
    if not callable(function):
        raise PermanentError(f"the module {args.module!r} has no function {args.function!r}")
    return function  # type: ignore[no-any-return]
