"""What OpenLineage 2-0-2 demands of an event and of the facets we send, in words of our own, and of a run's events."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker

Event = dict[str, Any]

BASE = "https://openlineage.io/spec"
EDITIONS = {
    "ProcessingEngineRunFacet": "1-1-1",
    "ParentRunFacet": "1-2-0",
    "ErrorMessageRunFacet": "1-0-1",
    "NominalTimeRunFacet": "1-0-1",
    "SchemaDatasetFacet": "1-2-0",
    "InputStatisticsInputDatasetFacet": "1-0-0",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
}
"""The editions that OpenLineage's own client for Python, 1.54, sends."""

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0}
_URI = {"type": "string", "format": "uri"}
_TIME = {"type": "string", "format": "date-time"}
_UUID = {"type": "string", "format": "uuid"}


def _exactly(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    """Describe an object that has nothing else; we want to hear of a name that is misspelt."""
    properties = required | (optional or {})
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _facet(kind: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    where = f"{BASE}/facets/{EDITIONS[kind]}/{kind}.json#/$defs/{kind}"
    return _exactly({"_producer": _URI, "_schemaURL": {"const": where}} | required, optional)


def _dataset(**own: dict[str, Any]) -> dict[str, Any]:
    fields = {"type": "array", "minItems": 1, "items": _exactly({"name": _TEXT, "type": _TEXT})}
    schema = _facet("SchemaDatasetFacet", {"fields": fields})
    name = {"type": "string", "minLength": 1}
    facets = {name: _exactly({}, inner) for name, inner in own.items()}
    return _exactly({"namespace": name, "name": name, "facets": _exactly({}, {"schema": schema})}, facets)


_STATISTICS = {"rowCount": _COUNT, "size": _COUNT, "fileCount": _COUNT}
_RUN_FACETS = {
    "processing_engine": _facet("ProcessingEngineRunFacet", {"version": _TEXT}, {"name": _TEXT}),
    "parent": _facet(
        "ParentRunFacet", {"run": _exactly({"runId": _UUID}), "job": _exactly({"namespace": _TEXT, "name": _TEXT})}
    ),
    "errorMessage": _facet(
        "ErrorMessageRunFacet", {"message": _TEXT, "programmingLanguage": _TEXT}, {"stackTrace": _TEXT}
    ),
    "nominalTime": _facet("NominalTimeRunFacet", {"nominalStartTime": _TIME}, {"nominalEndTime": _TIME}),
}
_EVENT = _exactly(
    {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL"]},
        "eventTime": _TIME,
        "producer": _URI,
        "schemaURL": {"const": f"{BASE}/2-0-2/OpenLineage.json#/$defs/RunEvent"},
        "run": _exactly({"runId": _UUID, "facets": _exactly({}, _RUN_FACETS)}),
        "job": _exactly({"namespace": _TEXT, "name": _TEXT, "facets": _exactly({})}),
        "inputs": {
            "type": "array",
            "items": _dataset(
                inputFacets={"inputStatistics": _facet("InputStatisticsInputDatasetFacet", {}, _STATISTICS)}
            ),
        },
        "outputs": {
            "type": "array",
            "items": _dataset(
                outputFacets={"outputStatistics": _facet("OutputStatisticsOutputDatasetFacet", {}, _STATISTICS)}
            ),
        },
    }
)
_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("uuid", raises=ValueError)
def _is_uuid(text: object) -> bool:
    return str(UUID(str(text))) == text


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(text: object) -> bool:
    return "T" in str(text) and datetime.fromisoformat(str(text)).tzinfo is not None


@_FORMATS.checks("uri", raises=ValueError)
def _is_uri(text: object) -> bool:
    return bool(urlsplit(str(text)).scheme)


def check_event(event: Event) -> None:
    """Fail when an event is not what the specification demands."""
    Draft202012Validator(_EVENT, format_checker=_FORMATS).validate(event)


def check_runs(events: list[Event]) -> None:
    """Fail unless every run begins once and ends once, in the order of time, and every event keeps to the rules."""
    runs: dict[str, list[Event]] = {}
    for event in events:
        check_event(event)
        runs.setdefault(event["run"]["runId"], []).append(event)
    for own in runs.values():
        kinds = [event["eventType"] for event in own]
        assert kinds[0] == "START"
        assert kinds[-1] in {"COMPLETE", "FAIL", "ABORT"}
        assert set(kinds[1:-1]) <= {"RUNNING"}
        assert sorted(event["eventTime"] for event in own) == [event["eventTime"] for event in own]
