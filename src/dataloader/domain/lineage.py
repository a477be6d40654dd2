"""OpenLineage events, built from what the database recorded of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from urllib.parse import urlsplit
from uuid import UUID, uuid5

PRODUCER = f"urn:dataloader:{version('dataloader')}"
"""What these events say of who made them; a URI, as the specification demands."""

EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Table:
    """The table a job loads, or the directory it writes to.

    Attributes:
        server: Namespace of the server, `postgres://host:port`; `file` of a directory.
        name: `database.schema.table`, or a path.
        columns: Column to type; empty when unknown.
    """

    server: str
    name: str
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """What the chunks of a run read from one source and wrote; None where it is not known."""

    source: str | None
    rows_in: int | None
    rows_out: int | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class Transition:
    """A committed change of a job, as the audit log has it.

    Attributes:
        was_running: Whether the job was running before.
        error: Message of the error that ended the run, None without one.
        interval: Begin and end of the data's interval, if the job has one.
    """

    job_id: UUID
    task: str
    at: datetime
    kind: str
    status: str
    epoch: int
    was_running: bool
    error: str | None = None
    interval: tuple[datetime, datetime] | None = None


def run_id(job_id: UUID, epoch: int) -> UUID:
    """Return the id of one run of a job, the same wherever and whenever it is asked for."""
    return uuid5(job_id, f"run/{epoch}")


def event_type(seen: Transition) -> str | None:
    """Return what a transition is to OpenLineage, None for nothing: only a run that began can end."""
    if seen.kind == "claimed":
        return "START"
    if seen.kind == "checkpoint":
        return "RUNNING"
    if not seen.was_running or seen.status == "running":
        return None
    if seen.status == "succeeded":
        return "COMPLETE"
    return "FAIL" if seen.status == "failed" or seen.kind == "retry_scheduled" else "ABORT"


def build(seen: Transition, *, namespace: str, lines: Sequence[Line] = (), table: Table | None = None) -> Json | None:
    """Return the event of a transition, None when there is nothing to tell.

    Args:
        seen: What happened.
        namespace: Of the jobs.
        lines: The ledger of the run, at its end.
        table: Where the rows went.
    """
    kind = event_type(seen)
    if kind is None:
        return None
    return {
        "eventType": kind,
        "eventTime": seen.at.astimezone(UTC).isoformat(),
        "producer": PRODUCER,
        "schemaURL": EVENT_SCHEMA,
        "run": {"runId": str(run_id(seen.job_id, seen.epoch)), "facets": _run_facets(seen, namespace)},
        "job": {"namespace": namespace, "name": seen.task, "facets": {}},
        "inputs": [_input(line, namespace) for line in lines if line.source],
        "outputs": [] if table is None else [_output(table, lines)],
    }


def dataset_of(source: str, namespace: str) -> tuple[str, str]:
    """Return namespace and name of a source; neither passwords nor query strings are part of it."""
    try:
        parts = urlsplit(source)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return namespace, source.partition("?")[0]
    if parts.scheme and parts.hostname:
        path = parts.path if parts.scheme in {"http", "https"} else parts.path.lstrip("/")
        return f"{parts.scheme}://{parts.hostname}{port}", path or "/"
    return ("file", source) if source.startswith("/") else (namespace, source)


def _facet(schema: str, **content: object) -> Json:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"https://openlineage.io/spec/facets/{schema}",
        **{name: value for name, value in content.items() if value is not None},
    }


def _run_facets(seen: Transition, namespace: str) -> Json:
    facets: Json = {
        "processing_engine": _facet(
            "1-1-1/ProcessingEngineRunFacet.json", version=version("dataloader"), name="dataloader"
        ),
        "parent": _facet(
            "1-0-0/ParentRunFacet.json",
            run={"runId": str(seen.job_id)},
            job={"namespace": namespace, "name": seen.task},
        ),
    }
    if seen.error is not None:
        facets["errorMessage"] = _facet(
            "1-0-0/ErrorMessageRunFacet.json", message=seen.error, programmingLanguage="python"
        )
    if seen.interval is not None:
        begin, end = (moment.astimezone(UTC).isoformat() for moment in seen.interval)
        facets["nominalTime"] = _facet("1-0-0/NominalTimeRunFacet.json", nominalStartTime=begin, nominalEndTime=end)
    return facets


def _input(line: Line, namespace: str) -> Json:
    space, name = dataset_of(line.source or "", namespace)
    statistics = _facet("1-0-0/InputStatisticsInputDatasetFacet.json", rowCount=line.rows_in, size=line.size_bytes)
    return {"namespace": space, "name": name, "facets": {}, "inputFacets": {"inputStatistics": statistics}}


def _output(table: Table, lines: Sequence[Line]) -> Json:
    fields = [{"name": name, "type": kind} for name, kind in table.columns.items()]
    facets = {"schema": _facet("1-0-0/SchemaDatasetFacet.json", fields=fields)} if fields else {}
    rows = _sum(line.rows_out for line in lines)
    statistics = _facet("1-0-2/OutputStatisticsOutputDatasetFacet.json", rowCount=rows)
    output: Json = {"namespace": table.server, "name": table.name, "facets": facets}
    return output if rows is None else output | {"outputFacets": {"outputStatistics": statistics}}


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
