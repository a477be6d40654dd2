"""What is said of a run, and how datasets are called."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from dataloader.connectors.identifiers import TableName, parse_table
from dataloader.domain.datasets import Database, cleaned, dataset_of, is_address, shown
from dataloader.domain.lineage import Transition, event_type, run_id

JOB = UUID(int=1)


@pytest.mark.parametrize(
    ("kind", "status", "was_running", "told"),
    [
        ("claimed", "running", False, "START"),
        ("checkpoint", "running", True, "RUNNING"),
        ("succeeded", "succeeded", True, "COMPLETE"),
        ("failed", "failed", True, "FAIL"),
        ("retry_scheduled", "queued", True, "FAIL"),
        ("canceled", "canceled", True, "ABORT"),
        ("lost", "lost", True, "ABORT"),
        ("lease_expired", "queued", True, "ABORT"),
        ("handed_over", "queued", True, "ABORT"),
        ("canceled", "canceled", False, None),
        ("created", "queued", False, None),
        ("retried", "queued", False, None),
        ("cancel_requested", "running", True, None),
    ],
)
def test_only_a_run_that_began_starts_and_ends(kind: str, status: str, was_running: bool, told: str | None) -> None:
    seen = Transition(JOB, "t", datetime.now(UTC), kind, status, epoch=1, was_running=was_running)

    assert event_type(seen) == told


@pytest.mark.parametrize(
    ("said", "kept", "dataset"),
    [
        ("/data/f.csv", "/data/f.csv", ("file", "/data/f.csv")),
        ("/token=a/what?#.csv", "/token=a/what?#.csv", ("file", "/token=a/what?#.csv")),
        ("s3://bucket/token=a/b?.csv", "s3://bucket/token=a/b?.csv", ("s3://bucket", "token=a/b?.csv")),
        ("https://u:secret@h:8443/f.csv?sig=secret#secret", "https://h:8443/f.csv", ("https://h:8443", "/f.csv")),
        ("https://user@h", "https://h", ("https://h", "/")),
        ("postgresql://u:secret@h:5432/shop.public.t?x", "postgres://h:5432/shop.public.t", None),
        ("postgres://u:se/cret@h/shop.public.t", "postgres://h/shop.public.t", None),
        ("mysql://u:secret@h/shop?password=secret", "mysql://h/shop", ("mysql://h", "shop")),
        ("warehouse.public.t", "warehouse.public.t", ("jobs", "warehouse.public.t")),
        ("host=h password=secret", "host=h password=***", ("jobs", "host=h password=***")),
    ],
)
def test_of_what_a_pipeline_says_nothing_secret_is_kept(said: str, kept: str, dataset: tuple[str, str] | None) -> None:
    assert cleaned(said) == kept
    assert cleaned(kept) == kept
    assert dataset is None or dataset_of(kept, "jobs") == dataset


@pytest.mark.parametrize(
    ("address", "seen"),
    [
        ("postgres://h:5432/shop.public.t", "public.t"),
        ('postgres://h:5432/"sh.op".public."a.b"', 'public."a.b"'),
        ("postgres://h:5432/shop.query:0a1b", "query:0a1b"),
        ("postgres://h:5432/shop", "shop"),
        ("https://h/f.csv", "https://h/f.csv"),
        ("public.t", "public.t"),
    ],
)
def test_users_see_a_table_without_its_host_and_database(address: str, seen: str) -> None:
    assert shown(address) == seen


@pytest.mark.parametrize(
    ("dsn", "database"),
    [
        ("postgresql://u:secret@db.example/shop", ("postgres://db.example:5432", "shop")),
        ("postgresql://u:s%40cret@db.example:6432/shop?sslmode=require", ("postgres://db.example:6432", "shop")),
        ("postgres://one:5433,two:5434/shop", ("postgres://one:5433", "shop")),
        ("postgresql://u:secret@[::1]:5432/shop", ("postgres://[::1]:5432", "shop")),
        ("postgresql:///shop?host=/run/postgresql&port=5433", ("postgres://localhost:5433", "shop")),
        ("postgresql://%2Frun%2Fpostgresql/shop", ("postgres://localhost:5432", "shop")),
        ("postgresql://u@h?dbname=shop&password=secret", ("postgres://h:5432", "shop")),
        ("postgresql://u:secret@h", ("postgres://h:5432", "u")),
        ("postgresql://h/?user=u&password=secret", ("postgres://h:5432", "u")),
        ("postgresql://u:secret@h/a%20b", ("postgres://h:5432", "a b")),
    ],
)
def test_a_database_is_called_by_its_address_without_its_credentials(dsn: str, database: tuple[str, str]) -> None:
    assert Database.of_dsn(dsn) == Database(*database)


@pytest.mark.parametrize("table", [("public", "t"), ("odd.schema", 'a "b"'), ("public", "a/b://c?d")])
def test_a_table_is_found_again_by_its_address(table: tuple[str, str]) -> None:
    database = Database("postgres://h:5432", "shop")

    inside = database.inside(database.table(*table))

    assert inside is not None
    assert parse_table(inside, schema="") == TableName(*table)
    assert shown(database.table(*table)) == inside
    assert Database("postgres://h:5432", "sho").inside(database.table(*table)) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [("/out", True), ("s3://b/k", True), ("orders", False), ("public.orders", False), ('"a://b".c', False)],
)
def test_a_path_or_address_is_not_taken_for_a_table(text: str, answer: bool) -> None:
    assert is_address(text) is answer


def test_each_claim_is_a_run_of_its_own_with_the_same_id_every_time() -> None:
    assert run_id(JOB, 1) == run_id(JOB, 1) != run_id(JOB, 2)
