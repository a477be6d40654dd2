"""Names from outside: what is accepted, and that quoting keeps every character."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataloader.connectors.identifiers import TableName, parse_table, parse_target, quote_ident
from dataloader.exceptions import InvalidError

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=15)


def unquote(sql: str) -> str:
    """Read one quoted identifier the way PostgreSQL's lexer does."""
    assert sql[0] == sql[-1] == '"'
    inner = sql[1:-1]
    assert '"' not in inner.replace('""', "")
    return inner.replace('""', '"')


@given(names)
def test_a_quoted_name_reads_back_as_itself(name: str) -> None:
    assert unquote(quote_ident(name)) == name


@given(names, names)
def test_a_quoted_table_reads_back_as_itself(schema: str, name: str) -> None:
    table = TableName(schema, name)

    assert parse_table(table.sql, schema="elsewhere") == table


@given(names.filter(lambda name: not set(name) & {'"', "."}))
def test_an_unqualified_name_lies_in_the_schema_given(name: str) -> None:
    assert parse_table(name, schema="jobs") == TableName("jobs", name)


def test_a_qualified_name_keeps_its_schema_and_case() -> None:
    assert parse_table("Raw.Rates", schema="jobs") == TableName("Raw", "Rates")


def test_a_hostile_name_stays_one_identifier() -> None:
    table = parse_table('"x""; drop table y; --"', schema="public")

    assert table.sql == '"public"."x""; drop table y; --"'


@pytest.mark.parametrize(
    "text",
    ["", ".", "a.", ".a", "a.b.c", 'a"b', '"a', '"a"b', '""', "a\0b", "x" * 64, "ж" * 32, "a.\ud800", '"a"."b"."c"'],
)
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidError):
        parse_table(text, schema="public")


@pytest.mark.parametrize("name", ["x" * 63, "ж" * 31 + "x"])
def test_a_name_of_63_bytes_is_accepted(name: str) -> None:
    assert parse_table(name, schema="public").name == name


@pytest.mark.parametrize("text", ["dl_jobs", "jobs.dl_jobs", '"dl_jobs"'])
def test_the_services_own_tables_are_no_target(text: str) -> None:
    with pytest.raises(InvalidError, match=f"^{text} is reserved"):
        parse_target(text, schema="jobs")


def test_a_like_named_table_of_another_schema_is_a_target() -> None:
    assert parse_target("mine.dl_jobs", schema="jobs") == TableName("mine", "dl_jobs")
