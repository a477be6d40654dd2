"""The statements as files: every one is known, says what it does, and can be prepared."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.resources import files

import pytest

from dataloader.storage.db import Connection
from dataloader.storage.queries import Queries, channel, in_schema, load_queries, run_name

FILES = sorted(entry.name.removesuffix(".sql") for entry in files("dataloader.storage").joinpath("sql").iterdir())
PARAMETERS = {
    "cancel": "uuid text",
    "cancel_run": "text[]",
    "checkpoint": "uuid int4 jsonb jsonb float8 jsonb",
    "complete": "uuid[] int4[] text",
    "enqueue": "text text text bool text",
    "exchange": "uuid[] int4[] text[] float8[] jsonb[] jsonb[] jsonb[] bool[] jsonb[] text "
    "uuid[] int4[] text text[] int8 uuid float8 bool float8 int2 timestamptz int8",
    "fate": "uuid[]",
    "heartbeat": "uuid[] int4[] jsonb[] float8",
    "keys_due": "float8 int8",
    "lineage_events": "int8 int8 int8",
    "lineage_freed": "uuid",
    "lineage_schema": "name name",
    "lineage_sent": "uuid int8 float8",
    "lineage_take": "uuid float8",
    "load_state": "text text",
    "lock_keys_after": "text int4",
    "partition_keys_after": "text int4",
    "promote": "text[] text[]",
    "promote_due": "int8",
    "prune_jobs": "float8 int8",
    "prune_keys": "int8",
    "publish_tasks": "text[] text[] text[] jsonb[] jsonb[] text[]",
    "queue_census": "int8",
    "reap": "int8 float8 text timestamptz",
    "reconcile": "uuid int4[] uuid[] float8",
    "retry": "uuid bool text",
    "save_state": "text text jsonb uuid",
    "server_time": "",
    "terminate_strays": "timestamptz text",
    "why": "uuid int8",
    "worker_beat": "uuid text int4 text jsonb text[] jsonb bool float8",
    "worker_leave": "uuid",
}


def test_every_file_has_its_name_among_the_queries() -> None:
    assert sorted(field.name for field in fields(Queries)) == FILES


@pytest.mark.parametrize("name", FILES)
async def test_a_statement_can_be_prepared_and_takes_the_types_it_is_given(pg: Connection, name: str) -> None:
    """A parameter whose type the server guesses from its surroundings may be a narrower one than we send."""
    statement = await pg.prepare(getattr(load_queries("public"), name))

    assert " ".join(parameter.name for parameter in statement.get_parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", FILES)
def test_a_statement_says_what_it_does_names_its_parameters_and_its_schema(name: str) -> None:
    text = files("dataloader.storage").joinpath("sql", f"{name}.sql").read_text("utf-8")
    comment = " ".join(line for line in text.splitlines() if line.startswith("--"))

    assert text.startswith("-- ")
    assert set(re.findall(r"\$\d+", comment)) == set(re.findall(r"\$\d+", text))
    assert not re.search(r"(?<!\.)\bdl_\w+(?!\w*')", text.replace("{schema}.dl_", "{schema}.").replace("'dl_", ""))


def test_a_schema_is_quoted_as_an_identifier_and_plain_in_a_text() -> None:
    assert in_schema("select from {schema}.x where '{schema_name}'", "etl") == "select from \"etl\".x where 'etl'"
    assert channel("etl") == "dl_etl"


def test_the_name_of_a_run_fits_into_an_application_name() -> None:
    assert len(run_name("0" * 36, 2**31 - 1, schema="x" * 63)) < 64
