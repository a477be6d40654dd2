"""OpenLineage events, built from what the database recorded of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from types import MappingProxyType
from uuid import UUID, uuid5

from dataloader.domain.datasets import dataset_of, is_table

VERSION = version("dataloader")
PRODUCER = f"urn:dataloader:{VERSION}"
"""What these events say of who made them; a URI, as the specification demands."""

EVENT_SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"

Json = dict[str, object]

Columns = Mapping[str, Mapping[str, str]]
"""Of tables by their address: column to type."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the chunks of a run read from one source and wrote to one target; None where it is not known.

    Attributes:
        targets: Several of chunks that wrote to several tables: how many rows went to which is not known.
        size_bytes: Bytes that came, or that were written when the rows came from a table.
    """

    source: str | None
    targets: tuple[str, ...]
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


def build(
    seen: Transition, *, namespace: str, lines: Sequence[Line] = (), columns: Columns = MappingProxyType({})
) -> Json | None:
    """Return the event of a transition, None when there is nothing to tell.

    Args:
        seen: What happened.
        namespace: Of the jobs.
        lines: The ledger of the run, at its end.
        columns: Of tables that the lines name, as far as they are known.
    """
    kind = event_type(seen)
    if kind is None:
        return None
    sources = list(dict.fromkeys(line.source for line in lines if line.source))
    targets = list(dict.fromkeys(target for line in lines for target in line.targets))
    return {
        "eventType": kind,
        "eventTime": seen.at.astimezone(UTC).isoformat(),
        "producer": PRODUCER,
        "schemaURL": EVENT_SCHEMA,
        "run": {"runId": str(run_id(seen.job_id, seen.epoch)), "facets": _run_facets(seen, namespace)},
        "job": {"namespace": namespace, "name": seen.task, "facets": {}},
        "inputs": [_input(source, lines, namespace, columns) for source in sources],
        "outputs": [_output(target, lines, namespace, columns) for target in targets],
    }


def _facet(kind: str, edition: str, /, **content: object) -> Json:
    return {
        "_producer": PRODUCER,
        "_schemaURL": f"https://openlineage.io/spec/facets/{edition}/{kind}.json#/$defs/{kind}",
        **{key: value for key, value in content.items() if value is not None},
    }


def _run_facets(seen: Transition, namespace: str) -> Json:
    facets: Json = {
        "processing_engine": _facet("ProcessingEngineRunFacet", "1-1-1", version=VERSION, name="dataloader"),
        "parent": _facet(
            "ParentRunFacet",
            "1-2-0",
            run={"runId": str(seen.job_id)},
            job={"namespace": namespace, "name": seen.task},
        ),
    }
    if seen.error is not None:
        facets["errorMessage"] = _facet(
            "ErrorMessageRunFacet", "1-0-1", message=seen.error, programmingLanguage="python"
        )
    if seen.interval is not None:
        begin, end = (moment.astimezone(UTC).isoformat() for moment in seen.interval)
        facets["nominalTime"] = _facet("NominalTimeRunFacet", "1-0-1", nominalStartTime=begin, nominalEndTime=end)
    return facets


def _input(source: str, lines: Sequence[Line], namespace: str, columns: Columns) -> Json:
    own = [line for line in lines if line.source == source]
    size = None if is_table(source) else _sum(line.size_bytes for line in own)
    rows = _sum(line.rows_in for line in own)
    statistics = _facet("InputStatisticsInputDatasetFacet", "1-0-0", rowCount=rows, size=size)
    return _dataset(source, namespace, columns) | {"inputFacets": {"inputStatistics": statistics}}


def _output(target: str, lines: Sequence[Line], namespace: str, columns: Columns) -> Json:
    own = [line for line in lines if target in line.targets]
    if any(len(line.targets) > 1 for line in own):
        return _dataset(target, namespace, columns)
    written = [line for line in own if line.source is not None and is_table(line.source)]
    size = None if is_table(target) else _sum(line.size_bytes for line in written)
    rows = _sum(line.rows_out for line in own)
    statistics = _facet("OutputStatisticsOutputDatasetFacet", "1-0-2", rowCount=rows, size=size)
    return _dataset(target, namespace, columns) | {"outputFacets": {"outputStatistics": statistics}}


def _dataset(address: str, namespace: str, columns: Columns) -> Json:
    space, name = dataset_of(address, namespace)
    fields = [{"name": column, "type": kind} for column, kind in columns.get(address, {}).items()]
    facets = {"schema": _facet("SchemaDatasetFacet", "1-2-0", fields=fields)} if fields else {}
    return {"namespace": space, "name": name, "facets": facets}


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
