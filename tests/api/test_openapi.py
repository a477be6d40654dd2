"""The API describes itself completely."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dataloader.api.app import create_app

Operation = dict[str, Any]
DOCUMENT: dict[str, Any] = create_app().openapi()


def _operations() -> Iterator[tuple[str, Operation]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


OPERATIONS = dict(_operations())
PATHS = {
    "POST /api/v1/jobs/trigger", "POST /api/v1/jobs/trigger/bulk", "GET /api/v1/jobs", "GET /api/v1/jobs/{job_id}",
    "GET /api/v1/jobs/{job_id}/status", "POST /api/v1/jobs/{job_id}/cancel", "POST /api/v1/jobs/{job_id}/retry",
    "GET /api/v1/jobs/{job_id}/chunks",
    "GET /api/v1/jobs/{job_id}/events", "GET /api/v1/jobs/{job_id}/why", "GET /api/v1/tasks",
    "GET /api/v1/tasks/{task}", "GET /api/v1/queues", "POST /api/v1/queues/{queue}/pause",
    "POST /api/v1/queues/{queue}/resume", "GET /api/v1/workers", "GET /health", "GET /status", "GET /metrics",
}  # fmt: skip


def test_every_endpoint_of_the_contract_is_there() -> None:
    assert set(OPERATIONS) == PATHS


@pytest.mark.parametrize("name", sorted(PATHS))
def test_an_operation_is_described_with_all_its_errors(name: str) -> None:
    operation = OPERATIONS[name]
    codes = set(operation["responses"])
    statuses = {"500"}
    if "/api/v1" in name:
        statuses |= {"503"}
    if operation.get("parameters") or "requestBody" in operation:
        statuses |= {"422"}
    if "{" in name:
        statuses |= {"404"}
    if "requestBody" in operation:
        statuses |= {"400", "413", "415"}

    assert operation["summary"]
    assert operation["description"]
    assert operation["tags"]
    assert operation["operationId"]
    assert statuses <= codes
    for parameter in operation.get("parameters", []):
        assert parameter["description"], parameter["name"]
    for code in codes:
        answer = operation["responses"][code]
        assert answer["description"] not in {"", "Successful Response"} or code in {"200", "201"}
        if code >= "400" and name != "GET /status":
            content = answer["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert content["example"]["status"] == int(code)


def test_operation_ids_are_unique_and_tags_described() -> None:
    ids = [operation["operationId"] for operation in OPERATIONS.values()]
    tags = {tag for operation in OPERATIONS.values() for tag in operation["tags"]}

    assert len(ids) == len(set(ids))
    assert tags == {tag["name"] for tag in DOCUMENT["tags"]}
    assert all(tag["description"] for tag in DOCUMENT["tags"])


def test_requests_have_examples_and_every_field_of_them_a_description() -> None:
    trigger = DOCUMENT["components"]["schemas"]["TriggerRequest"]

    assert trigger["examples"]
    assert all(field["description"] for field in trigger["properties"].values())


def test_references_lead_somewhere_and_no_schema_is_left_over() -> None:
    text = str(DOCUMENT)
    schemas = DOCUMENT["components"]["schemas"]

    used = {name for name in schemas if f"'#/components/schemas/{name}'" in text}

    assert used == set(schemas)
    assert text.count("#/components/schemas/") == sum(text.count(f"'#/components/schemas/{name}'") for name in schemas)
