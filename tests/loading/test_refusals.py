"""Rows that a table refuses, and where they are: triggers, sizes, keys, constraints that are checked late."""

from __future__ import annotations

import json

import asyncpg
import pytest

from dataloader.exceptions import PermanentError
from dataloader.workers.pipelines.refusals import refusals
from tests.loading.scene import Scene, message, result

_TRIGGER = """
create table t (n int);
create function refuse() returns trigger language plpgsql as
    $$ begin if new.n = 3 then raise exception 'three is not wanted'; end if; return new; end $$;
create trigger refuse before insert on t for each row execute function refuse();
"""
_LATE = """
create table t (n int, constraint once unique (n) deferrable initially deferred);
"""


def kind(job: asyncpg.Record) -> str:
    """Return the class of the error that ended a job."""
    return str(json.loads(job["error"])["type"])


async def test_a_row_that_a_trigger_refuses_is_rejected(scene: Scene) -> None:
    await scene.pg.execute(_TRIGGER)
    path = scene.write("f.csv", "n\n1\n2\n3\n4\n")

    failed, rejected = await scene.loads({"source": path}, {"source": path, "on_error": "reject"})

    assert "f.csv, line 4: three is not wanted" in message(failed)
    assert result(rejected)["rejected"] == 1
    assert await scene.rows("select line, reason from t_rejects") == [(4, "three is not wanted")]


async def test_a_row_that_breaks_a_constraint_checked_at_the_end_fails_the_job_with_the_reason(scene: Scene) -> None:
    await scene.pg.execute(_LATE)

    job = await scene.load(source=scene.write("f.csv", "n\n1\n1\n"))

    assert "Key (n)=(1) already exists" in message(job)
    assert await scene.rows() == []


async def test_a_row_that_is_too_big_is_the_one_that_is_rejected(scene: Scene) -> None:
    names = [f"c{number}" for number in range(1_100)]
    await scene.pg.execute(f"create table t ({', '.join(f'{name} double precision' for name in names)}, k text)")
    wide, small = ",".join("1" for _ in names), ",".join("" for _ in names)
    lines = [f"{wide if number == 50 else small},{number}" for number in range(100)]
    header = ",".join([*names, "k"])

    job = await scene.load(source=scene.write("f.csv", "\n".join([header, *lines])), on_error="reject")

    assert result(job) | {"bytes": 0} == {"rows": 99, "rejected": 1, "files": 1, "bytes": 0}
    assert await scene.rows("select line from t_rejects") == [(52,)]


@pytest.mark.parametrize("value", ["a\\\\", 'a\\\\\\"b', "a\\\nb"])
async def test_a_rejected_row_ends_where_it_does_with_an_escape_of_its_own(scene: Scene, value: str) -> None:
    path = scene.write("f.csv", f'k,n\n"{value}",1\n"{value}",x\n"{value}",2\n')

    job = await scene.load(source=path, on_error="reject", escape="\\", columns={"n": "int"}, chunk_bytes=None)

    assert result(job)["rejected"] == 1
    assert await scene.rows("select n from t order by n") == [(1,), (2,)]


async def test_rejecting_ends_as_soon_as_there_are_too_many(scene: Scene) -> None:
    await scene.pg.execute("create table t (n int); create sequence tried;")
    await scene.pg.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin perform nextval('tried'); raise exception 'no'; end $$;"
        "create trigger refuse before insert on t for each row execute function refuse()"
    )
    path = scene.write("f.csv", "n\n" + "1\n" * 2_000)

    job = await scene.load(source=path, on_error="reject", max_rejects=5)

    assert "more than max_rejects=5 rows were rejected" in message(job)
    assert await scene.rows("select last_value from tried") == [(6,)]


@pytest.mark.parametrize("mode", ["append", "merge"])
async def test_a_value_of_json_lines_that_does_not_fit_has_its_line(scene: Scene, mode: str) -> None:
    await scene.pg.execute("create table t (k text primary key, n int)")
    lines = [f'{{"k":"{number}","n":{number if number != 70 else 3_000_000_000}}}' for number in range(100)]
    lines.insert(3, "")
    how: dict[str, object] = {"source": scene.write("f.jsonl", "\n".join(lines)), "mode": mode, "primary_key": ["k"]}

    failed, rejected = await scene.loads(how, how | {"on_error": "reject"})

    assert "f.jsonl, line 72:" in message(failed)
    assert result(rejected)["rejected"] == 1
    assert await scene.rows("select line from t_rejects") == [(72,)]


async def test_a_table_of_another_kind_where_rejects_go_is_refused(scene: Scene) -> None:
    await scene.pg.execute("create table t_rejects (reason text)")

    job = await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), on_error="reject", columns={"n": "int"})

    assert "t_rejects, where rejected rows go, has no column job_id" in message(job)


async def test_a_table_whose_types_are_not_those_of_rejects_is_refused(scene: Scene) -> None:
    await scene.pg.execute(
        "create table t_rejects"
        " (job_id bigint, source text, line bigint, row text, reason text, rejected_at timestamptz)"
    )

    job = await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), on_error="reject", columns={"n": "int"})

    assert kind(job) == "PermanentError"
    assert "is another table: job_id is bigint and must be uuid; rename it" in message(job)


async def test_what_the_database_refuses_for_good_is_not_tried_again(scene: Scene) -> None:
    await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), on_error="reject", columns={"n": "int"})
    await scene.pg.execute("truncate t_rejects; alter table t_rejects add judge int not null")

    job = await scene.load(source=scene.write("f.csv", "n\n1\nx\n"), on_error="reject")

    assert kind(job) == "PermanentError"
    assert json.loads(job["error"]).get("traceback") is None
    told = 'the database refuses it: null value in column "judge" of relation "t_rejects" violates not-null constraint'
    assert message(job).startswith(f"{told}; Failing row contains (")
    assert message(job).endswith(" (23502)")


@pytest.mark.parametrize(
    "error", [asyncpg.DuplicateTableError, asyncpg.InvalidCachedStatementError, asyncpg.DeadlockDetectedError]
)
def test_what_may_pass_is_tried_again(error: type[asyncpg.PostgresError]) -> None:
    with pytest.raises(error), refusals():
        raise error("passes")


async def test_chunks_that_are_held_in_memory_stay_small_whatever_was_asked(scene: Scene) -> None:
    path = scene.write("f.csv", "t\n" + f"{'x' * 999}\n" * 9_000)

    job = await scene.load(source=path, on_error="reject", chunk_bytes=1 << 30)

    assert result(job)["rows"] == 9_000
    assert await scene.rows("select max(bytes) < 8.1 * 1024 * 1024 from dl_chunks") == [(True,)]


@pytest.mark.parametrize("mode", ["append", "replace"])
async def test_a_schema_that_does_not_exist_is_named_with_the_table(scene: Scene, mode: str) -> None:
    job = await scene.load(source=scene.write("f.csv", "n\n1\n"), table="no.such", mode=mode)

    assert message(job) == "the schema no of the table no.such does not exist; create it"


async def test_an_empty_field_where_missing_values_are_written_otherwise_is_told_apart(scene: Scene) -> None:
    job = await scene.load(source=scene.write("f.csv", "k,n\na,1\nb,\nc,NA\n"), null="NA")

    assert "f.csv, line 3, column n: " in message(job)
    assert "a missing value is written NA in this file (null), an empty field is none" in message(job)


async def test_a_right_that_the_role_lacks_is_said_with_what_to_do(scene: Scene) -> None:
    await scene.pg.execute("set role pg_monitor")
    with pytest.raises(PermanentError, match=r"permission denied .* `dataloader doctor` \(42501\)"), refusals():
        await scene.pg.execute("create table t ()")
