"""One run of dlt; imported only in a run's own process, since it sets up the process for dlt."""

from __future__ import annotations

import importlib
import os
import traceback
from pathlib import Path
from typing import Any

from dataloader.exceptions import DataloaderError, PermanentError, SourceError
from dataloader.workers.job_context import JobContext
from dataloader.workers.pipelines.dlt_run.args import DltRunArgs
from dataloader.workers.pipelines.dlt_run.source import find_function

_ENVIRONMENT = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "LOAD__WORKERS": "4",
    "LOAD__RAISE_ON_FAILED_JOBS": "true",
}


def load(args: DltRunArgs, ctx: JobContext, credentials: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load a source and return what was loaded.

    Raises:
        PermanentError: dlt is not installed, the source is none, or a load job of it failed for good.
        SourceError: The source or the database failed; a later attempt may succeed.
    """
    os.environ.update(_ENVIRONMENT, DLT_DATA_DIR=str(folder))
    try:
        dlt = importlib.import_module("dlt")
        importlib.import_module("psycopg2")
    except ModuleNotFoundError as error:
        raise PermanentError(
            f"dlt.run needs what is not installed ({error}): pip install 'dlt[postgres]' (the extra `dlt`)"
        ) from error
    try:
        return _load(dlt, args, ctx, credentials, folder)
    except DataloaderError:
        raise
    except Exception as error:  # noqa: BLE001 - around the code of the user's source
        raise _told(error, str(credentials["password"])) from None


def _load(
    dlt: Any,
    args: DltRunArgs,
    ctx: JobContext,
    credentials: dict[str, Any],
    folder: Path,
) -> dict[str, Any]:
    progress = importlib.import_module("dataloader.workers.pipelines.dlt_run.progress")
    pipeline = dlt.pipeline(
        pipeline_name=args.pipeline_name,
        pipelines_dir=str(folder),
        dataset_name=args.dataset,
        destination=dlt.destinations.postgres(credentials=credentials, replace_strategy="insert-from-staging"),
        progress=progress.JobCollector(ctx),
    )
    info = pipeline.run(
        _selected(dlt, args),
        write_disposition=args.write_disposition,
        refresh=("drop_resources" if args.resources else "drop_sources") if args.full_refresh else None,
    )
    trace = pipeline.last_trace.last_normalize_info
    rows = {} if trace is None else trace.row_counts
    return {
        "pipeline": args.pipeline_name,
        "rows": {table: count for table, count in rows.items() if not table.startswith("_dlt")},
        "load_ids": list(info.loads_ids),
        "schema_changes": _changes(info),
    }


def _selected(dlt: Any, args: DltRunArgs) -> Any:
    source = find_function(args)(**args.source_args)
    if isinstance(source, dlt.sources.DltResource):
        if set(args.resources) - {source.name}:
            raise PermanentError(f"{args.source} is the single resource {source.name!r}; leave out resources")
        return source
    if not isinstance(source, dlt.sources.DltSource):
        kind = type(source).__name__
        raise PermanentError(f"{args.source} returned {kind}; decorate it with @dlt.source or @dlt.resource")
    if missing := sorted(set(args.resources) - set(source.resources)):
        known = ", ".join(sorted(source.resources))
        raise PermanentError(f"{args.source} has no resource {', '.join(missing)}; it has {known}")
    return source.with_resources(*args.resources) if args.resources else source


def _changes(info: Any) -> dict[str, list[str]]:
    """Return the columns that were added, by table."""
    found: dict[str, list[str]] = {}
    for package in info.load_packages:
        for name, table in package.schema_update.items():
            if not name.startswith("_dlt"):
                found.setdefault(name, []).extend(table["columns"])
    return found


def _told(error: Exception, password: str) -> DataloaderError:
    """Return an error that says what the first cause was, and where, without the password."""
    cause: BaseException = error
    while (deeper := getattr(cause, "exception", None) or cause.__cause__) is not None:
        cause = deeper
    if type(cause).__name__ == "LoadClientJobFailed":
        return PermanentError(_hidden(f"dlt: a load job failed: {cause}", password))
    step = getattr(error, "step", "start")
    frames = traceback.extract_tb(cause.__traceback__)
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return SourceError(_hidden(f"dlt, step {step}: {type(cause).__name__}: {cause}{where}", password))


def _hidden(text: str, password: str) -> str:
    return text.replace(password, "***") if password else text
